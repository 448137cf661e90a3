"""``SparseSwin(bypass='package')``: dropped windows live on in package tokens."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from sparsevit_mm.cost import count_macs, measure_macs
from sparsevit_mm.models import SparseSwin
from sparsevit_mm.models.layers.window_choice import WindowRanking, pack_windows
from sparsevit_mm.ops import build_window_grid
from sparsevit_mm.selectors import MagnitudeSelector

from .conftest import randomize

SIZE = dict(embed_dims=16, depths=(2, 5), num_heads=(2, 4), strides=(4, 2), out_indices=(0, 1), window_size=4)
LEARNED = dict(type='sparsevit_mm.MultiHeadSelector', noise=0)
SELECTORS = {
    'magnitude': dict(type='sparsevit_mm.MagnitudeSelector'),
    'learned': LEARNED,
    'kept': dict(LEARNED, learn_from='kept'),
}
SPARSITY = (0.5, 0.3, 0.6, 0.6)


def tiny(selector: str = 'magnitude', **options) -> SparseSwin:
    torch.manual_seed(0)
    options = {**SIZE, 'sparsity': SPARSITY, 'bypass': 'package', 'drop_path_rate': 0.0, **options}
    model = SparseSwin(selector=SELECTORS[selector], **options)
    model.init_weights()
    return randomize(model, 0.1).eval()


def plain_stage(stage, x, hw_shape, records, weights_of, merged, unfold):
    """One image, window by window and token by token; ``records`` say which windows each block computes."""
    height, width = hw_shape
    side = stage.window_size
    packages: list[dict] = []
    gone: set[int] = set()
    stays = records[0].num_units

    def tokens_of(record):
        mask = torch.zeros(height, width, dtype=torch.long) - 1
        down, across = -(-height // side), -(-width // side)
        for y in range(height):
            for x_ in range(width):
                v = (y - record.shift) % (down * side) // side
                u = (x_ - record.shift) % (across * side) // side
                mask[y, x_] = v * across + u
        return mask.flatten()

    def hand_on():
        for package in packages:
            if unfold == 'residual':
                x[package['members']] += package['token'] - package['before']
            package['before'] = package['token']

    for i, block in enumerate(stage.blocks):
        site = [record for record in records if record.block // 2 == i // 2]
        own = next(record for record in records if record.block == i)
        if i % 2 == 0 and own.kept.shape[1] < stays:
            stays = own.kept.shape[1]
            computed = set()
            for record in site:
                owner = tokens_of(record)
                computed |= {t for t in range(len(x)) if owner[t] in record.kept[0]}
            newly = sorted(set(range(len(x))) - computed - gone)
            assert newly, 'another picture is needed'
            gone |= set(newly)
            if merged and packages:
                hand_on()
            weights = weights_of(i, tokens_of(site[0]))[newly]
            token, mass = (weights @ x[newly]) / weights.sum(), weights.sum()
            if merged and packages:
                old = packages.pop()
                token = (old['token'] * old['mass'] + token * mass) / (old['mass'] + mass)
                mass, newly = old['mass'] + mass, sorted(newly + old['members'])
            packages.append(dict(token=token, before=token, mass=mass, members=newly))
        attention = block.attn.w_msa
        heads, dims = attention.num_heads, x.shape[1]

        def project(rows, attention=attention, heads=heads):
            return attention.qkv(rows).view(len(rows), 3, heads, -1).permute(1, 2, 0, 3)  # [3, heads, N, d]

        grid = stage.grid(hw_shape, block.shift_size, x.device)
        bias = attention.bias(grid.masks)
        summaries = torch.stack([package['token'] for package in packages])
        q_p, k_p, v_p = project(block.norm1(summaries))
        y, seen_k, seen_v = x.clone(), [k_p], [v_p]
        for w in own.kept[0].tolist():
            places = grid.rows[w]
            real = places < len(x)
            rows = torch.zeros(len(places), dims)
            rows[real] = block.norm1(x[places[real]])
            q, k, v = project(rows)
            scores = q @ k.transpose(-2, -1) * attention.scale + bias[grid.kinds[w] if grid.masks is not None else 0]
            scores = torch.cat([scores, q @ k_p.transpose(-2, -1) * attention.scale], dim=-1)
            out = (scores.softmax(-1) @ torch.cat([v, v_p], dim=1)).transpose(0, 1).flatten(1)
            new = x[places[real]] + attention.proj(out)[real]
            y[places[real]] = block.ffn(block.norm2(new), identity=new)
            seen_k.append(k[:, real])
            seen_v.append(v[:, real])
        keys, values = torch.cat(seen_k, dim=1), torch.cat(seen_v, dim=1)
        out = ((q_p @ keys.transpose(-2, -1) * attention.scale).softmax(-1) @ values).transpose(0, 1).flatten(1)
        summaries = summaries + attention.proj(out)
        summaries = block.ffn(block.norm2(summaries), identity=summaries)
        for package, token in zip(packages, summaries):
            package['token'] = token
        x = y
    hand_on()
    return x


@pytest.mark.parametrize('size', [(128, 96), (124, 164)])
@pytest.mark.parametrize('package', ['separate', 'merged'])
@pytest.mark.parametrize('unfold', ['residual', 'reuse'])
@pytest.mark.parametrize('selector', ['magnitude', 'learned'])
def test_against_a_plain_program(selector, package, unfold, size):
    model = tiny(selector, package=package, unfold=unfold)
    stage, hw_shape = model.stages[1], (-(-size[0] // 8), -(-size[1] // 8))
    image = torch.randn(1, 3, *size)
    inputs = []
    stage.register_forward_pre_hook(lambda module, args: inputs.append(args[0].clone()))
    with torch.no_grad(), model.record_selections() as records:
        out = model(image)[1]
    own = [record for record in records if record.site.startswith('stage2')]
    with torch.no_grad():
        first = stage.grid(hw_shape, 0, image.device)
        scores = stage.selector.score_windows(inputs[0], [first])[0][0]

        def weights_of(block, owner):
            return scores.sigmoid()[owner] if selector == 'learned' else torch.ones(len(owner))

        x = plain_stage(stage, inputs[0][0].clone(), hw_shape, own, weights_of, package == 'merged', unfold)
        expected = model.norm1(x).T.unflatten(1, hw_shape)
    torch.testing.assert_close(out[0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('selector', sorted(SELECTORS))
def test_sparsity_zero_is_the_dense_model(selector):
    model, image = tiny(selector, sparsity=0.0), torch.randn(2, 3, 50, 70)
    dense = SparseSwin(**SIZE, drop_path_rate=0.0).eval()
    dense.load_state_dict({k: v for k, v in model.state_dict().items() if 'selector' not in k})
    with torch.no_grad():
        for a, b in zip(model(image), dense(image)):
            torch.testing.assert_close(a, b)


def test_a_package_changes_what_windows_compute():
    model, image = tiny(), torch.randn(1, 3, 64, 64)
    plain = SparseSwin(**SIZE, sparsity=SPARSITY, drop_path_rate=0.0).eval()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert (model(image)[0] - plain(image)[0]).abs().amax() > 0.01


@pytest.mark.parametrize('selector', sorted(SELECTORS))
@pytest.mark.parametrize('package', ['separate', 'merged'])
def test_images_of_a_batch_do_not_meet(selector, package):
    model, images = tiny(selector, package=package), torch.randn(3, 3, 52, 76)
    with torch.no_grad():
        together = model(images)
        for i in range(3):
            for a, b in zip(together, model(images[i : i + 1])):
                torch.testing.assert_close(a[i : i + 1], b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('size', [(64, 64), (52, 76)])
def test_chunks_change_nothing(size):
    model, images = tiny(), torch.randn(2, 3, *size)
    with torch.no_grad():
        whole = model(images)
        model.chunk_rows = 48
        for a, b in zip(whole, model(images)):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('selector', sorted(SELECTORS))
@pytest.mark.parametrize('size', [(64, 64), (52, 76)])
def test_training_gives_the_maps_of_inference(selector, size):
    model, images = tiny(selector), torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = model(images)
    for a, b in zip(model.train()(images), expected):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('selector', sorted(SELECTORS))
@pytest.mark.parametrize('sparsity', [0.0, 0.5, (0.5, 0, 0, 0.5)])
@pytest.mark.parametrize('package', ['separate', 'merged'])
def test_every_parameter_gets_a_gradient(selector, sparsity, package):
    model = tiny(selector, sparsity=sparsity, package=package).train()
    sum(out.square().mean() for out in model(torch.randn(2, 3, 52, 76))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    if selector != 'magnitude':
        for stage, pruned in zip(model.stages, (model.sparsity[0], model.sparsity[-1])):
            assert (stage.selector.in_proj.weight.grad.abs().sum() > 0) == bool(pruned)


@pytest.mark.parametrize('selector', sorted(SELECTORS))
def test_checkpointing_changes_nothing(selector):
    grads = []
    for with_cp in (False, True):
        model = tiny(selector, with_cp=with_cp, drop_path_rate=0.3).train()
        torch.manual_seed(1)
        sum(out.square().mean() for out in model(torch.randn(2, 3, 52, 76))).backward()
        grads.append([parameter.grad.clone() for parameter in model.parameters()])
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('selector', sorted(SELECTORS))
def test_bfloat16_autocast(training, selector):
    model = tiny(selector).train(training)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        outs = model(torch.randn(2, 3, 52, 76))
        sum(out.float().square().mean() for out in outs).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        assert all(out.isfinite().all() for out in model(torch.randn(2, 3, 52, 76)))


@pytest.mark.parametrize('merged', [True, False])
def test_an_image_with_nothing_to_pack_has_the_mean_of_its_map(merged):
    """Of the first image the windows of one shift cover what those of the other leave out."""
    selector, tokens = MagnitudeSelector(), torch.randn(2, 256, 16)
    rankings = []
    for shift, last in ((0, (0, 5)), (2, (10, 5))):
        grid = build_window_grid(16, 16, 4, shift, 'cpu')
        order = torch.stack([torch.tensor([i for i in range(16) if i != w] + [w]) for w in last])
        rankings.append(WindowRanking(selector, grid, torch.zeros(2, 16), None, order))
    packages = pack_windows(None, tokens, rankings, 15, merged)
    assert packages.members.sum((1, 2)).tolist() == [0, 4]
    torch.testing.assert_close(packages.tokens[0, 0], tokens[0].mean(0))
    torch.testing.assert_close(packages.tokens[1, 0], tokens[1][packages.members[1, 0] > 0].mean(0))
    unfolded, _ = replace(packages, tokens=packages.tokens + 1).unfold(tokens)
    assert torch.equal(unfolded[0], tokens[0]) and not torch.equal(unfolded[1], tokens[1])


@pytest.mark.parametrize('package', ['separate', 'merged'])
@pytest.mark.parametrize('sparsity', [SPARSITY, (0, 0, 0.5, 0.5), (0.3, 0.3, 0.3, 0.8)])
@pytest.mark.parametrize('selector', ['magnitude', 'learned'])
def test_macs_are_what_runs(selector, package, sparsity):
    model = tiny(selector, sparsity=sparsity, package=package)
    assert measure_macs(model, (128, 160)) == pytest.approx(count_macs(model, (128, 160)), rel=0.002)


def test_records_show_the_packages():
    model = tiny(sparsity=(0.5, 0, 0.5, 0.5))
    with torch.no_grad(), model.record_selections() as records:
        model(torch.randn(1, 3, 64, 64))
    packed = {record.block: record.packed for record in records if record.site.startswith('stage2')}
    assert packed[0] is None and packed[1] is None
    own = [record for record in records if record.site == 'stage2.pair2']
    covered = own[0].token_mask() | own[1].token_mask()
    assert torch.equal(own[0].packed, ~covered) and own[0].packed.any()


def test_bad_arguments():
    for option in ('bypass', 'package', 'unfold', 'counts'):
        with pytest.raises(ValueError, match=f"{option} of SparseSwin must be one of .*, got 'fast'"):
            tiny(**{option: 'fast'})


def test_packed_tokens_of_a_map_are_those_of_no_window():
    """The tables that give tokens their window are the inverse of those that give windows their tokens."""
    model = tiny()
    for shift in (0, 2):
        grid = model.stages[0].grid((9, 14), shift, torch.device('cpu'))
        for window, rows in enumerate(grid.rows):
            assert all(grid.owners[row] == window for row in rows.tolist() if row < 9 * 14)
    assert F.one_hot(grid.owners).sum(0).tolist() == list(grid.token_counts)
