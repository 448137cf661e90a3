"""``counts='adaptive'``: every image decides by itself how much of it is computed."""

import pytest
import torch

from sparsevit_mm.models import PrunedPiT, PrunedViT, SparseBackbone, SparseSwin
from sparsevit_mm.ops import PackedTokens, keep_above, kept_indices
from sparsevit_mm.sparsity import keep_count

from .conftest import randomize

FREE = dict(type='sparsevit_mm.MultiHeadSelector', draw='gumbel', noise=0)
BATCH = dict(FREE, draw='batch')
VIT = dict(img_size=64, embed_dims=32, num_layers=5, num_heads=4, site_blocks=(1, 3), out_indices=(2, 4))
PIT = dict(arch=dict(head_dims=(8, 8), num_heads=(2, 4), depths=(2, 3), patch_size=8, stride=4), img_size=64)
SWIN = dict(
    embed_dims=16,
    depths=(2, 4),
    num_heads=(2, 4),
    strides=(4, 2),
    out_indices=(0, 1),
    window_size=4,
    drop_path_rate=0.0,
)
MODELS = {
    'vit': (PrunedViT, dict(VIT, bypass='reuse')),
    'vit-package': (PrunedViT, dict(VIT, bypass='package')),
    'vit-merged': (PrunedViT, dict(VIT, bypass='package', package='merged')),
    'vit-reactivate': (PrunedViT, dict(VIT, bypass='package', reactivate=True)),
    'pit': (PrunedPiT, dict(PIT, out_indices=(0, 1))),
    'swin': (SparseSwin, SWIN),
    'swin-package': (SparseSwin, dict(SWIN, bypass='package')),
}


def build(name: str, **options) -> SparseBackbone:
    torch.manual_seed(1)
    cls, arguments = MODELS[name]
    model = cls(**{**dict(sparsity=0.5, selector=FREE, counts='adaptive'), **arguments, **options})
    model.init_weights()
    model = randomize(model, 0.1)
    model.eval()
    if any(model.sparsity):
        images = torch.randn(3, 3, 52, 76)
        for selector in model.selectors():  # scores on both sides of the threshold
            randomize(selector, 0.6)
            scores = []
            handle = selector.register_forward_hook(lambda module, args, out, seen=scores: seen.append(out.median()))
            with torch.no_grad():
                model(images)
                selector.out_proj[-1].bias[:, 0] -= scores[0]
            handle.remove()
    return model


@pytest.mark.parametrize('name', sorted(MODELS))
def test_images_have_their_own_counts_and_do_not_meet(name):
    model, images = build(name), torch.randn(3, 3, 52, 76) * torch.tensor([0.3, 1, 3])[:, None, None, None]
    with torch.no_grad():
        together = model(images)
        counts = {site: kept.tolist() for site, kept in model.kept_counts.items()}
        assert list(counts) == list(model.sites)
        assert any(len(set(kept)) > 1 for kept in counts.values()), 'images that differ'
        for i in range(3):
            for a, b in zip(together, model(images[i : i + 1])):
                torch.testing.assert_close(a[i : i + 1], b, rtol=1e-4, atol=1e-5)
            assert {site: kept.tolist() for site, kept in model.kept_counts.items()} == {
                site: kept[i : i + 1] for site, kept in counts.items()
            }


@pytest.mark.parametrize('name', sorted(name for name in MODELS if 'swin' not in name))
def test_one_image_is_as_with_a_fixed_count_of_the_same_number(name):
    model, image = build(name), torch.randn(1, 3, 64, 64)
    fixed = build(name, counts='fixed', sparsity=0.0, selector=dict(FREE, draw='topk'))
    fixed.load_state_dict(model.state_dict())
    model.sparsity = [0.0] * (len(model.sites) - 1) + [0.5]
    with torch.no_grad(), model.record_selections() as records:
        expected = model(image)
    last = records[-1]
    fixed.sparsity = [0.0] * (len(model.sites) - 1) + [1 - int(last.counts) / last.num_units]
    with torch.no_grad():
        for a, b in zip(expected, fixed(image)):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', sorted(MODELS))
def test_training_gives_the_maps_of_inference(name):
    model, images = build(name), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
        counts = {site: kept.tolist() for site, kept in model.kept_counts.items()}
    for a, b in zip(model.train()(images), expected):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert {site: kept.tolist() for site, kept in model.kept_counts.items()} == counts
    for site, ratio in model.keep_ratios.items():
        units = ratio.detach() * model.kept_counts[site] / ratio.detach().square().clamp(min=1e-6)
        torch.testing.assert_close(units, units[:1].expand_as(units), msg='ratios are counts over units')


@pytest.mark.parametrize('name', sorted(MODELS))
def test_every_parameter_gets_a_gradient(name):
    model = build(name, selector=dict(FREE, noise=1)).train()
    outs = model(torch.randn(2, 3, 64, 64))
    sum(out.square().mean() for out in outs).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key


@pytest.mark.parametrize('name', sorted(MODELS))
def test_sparsity_zero_is_dense(name):
    model, image = build(name, sparsity=0.0), torch.randn(2, 3, 64, 64)
    fixed = build(name, sparsity=0.0, counts='fixed', selector=dict(FREE, draw='topk'))
    with torch.no_grad():
        for a, b in zip(model(image), fixed(image)):
            torch.testing.assert_close(a, b)
    assert not model.kept_counts


@pytest.mark.parametrize('name', sorted(MODELS))
def test_one_unit_stays_where_none_would(name):
    model = build(name)
    with torch.no_grad():
        for selector in model.selectors():
            selector.out_proj[-1].bias[:] = torch.tensor([-50.0, 50.0])
        outs = model(torch.randn(2, 3, 64, 64))
    assert all(out.isfinite().all() for out in outs)
    assert all(kept.tolist() == [1, 1] for kept in model.kept_counts.values())


@pytest.mark.parametrize('name', sorted(MODELS))
def test_bfloat16_autocast(name):
    model = build(name)
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        assert all(out.isfinite().all() for out in model(torch.randn(2, 3, 64, 64)))


@pytest.mark.parametrize('name', ['vit-package', 'swin-package'])
def test_records_have_the_units_of_each_image(name):
    model = build(name)
    with torch.no_grad(), model.record_selections() as records:
        model(torch.randn(3, 3, 52, 76))
    last = next(record for record in records if record.site == model.sites[-1])
    assert last.counts.tolist() == model.kept_counts[model.sites[-1]].tolist()
    side = last.window
    for mask, count in zip(last.token_mask(), last.counts.tolist()):
        assert 0 < mask.sum() <= count * side**2


@pytest.mark.parametrize('name', sorted(MODELS))
def test_the_best_of_a_batch_stay_and_evaluation_has_their_cut(name):
    model, images = build(name, selector=BATCH, sparsity=0.5), torch.randn(4, 3, 64, 64)
    model.train()
    outs = model(images)  # the first batch is the mean
    counts = {site: kept.clone() for site, kept in model.kept_counts.items()}
    with torch.no_grad(), model.record_selections() as records:
        expected = model.eval()(images)
    units = {record.site: record.num_units for record in records}
    for site, kept in counts.items():
        assert len(set(kept.tolist())) > 1, 'images that differ'
        if 'swin' not in name:  # the two shifts of windows share a cut
            assert kept.sum() == pytest.approx(4 * keep_count(units[site], 0.5), abs=1)
    if 'swin' not in name:
        assert {site: kept.tolist() for site, kept in model.kept_counts.items()} == {
            site: kept.tolist() for site, kept in counts.items()
        }
        for a, b in zip(outs, expected):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert all(selector.cuts_seen > 0 for selector in model.selectors())
    again = build(name, selector=BATCH, sparsity=0.5)
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        for a, b in zip(again(images), expected):
            torch.testing.assert_close(a, b)


def test_the_cut_is_a_running_mean():
    selector = build('vit', selector=BATCH).site_selectors[0]
    scores = torch.arange(8.0).view(2, 4)
    selector.cut.zero_(), selector.cuts_seen.zero_()
    assert selector.choose(scores, scores, 2).tolist() == [[False, False, False, True], [True] * 4]
    assert selector.cut == 3.5  # one unit of each image stays, wherever the cut is
    selector.choose(scores + 2, scores + 2, 2)
    assert selector.cut == 4.5
    for _ in range(200):
        selector.choose(scores, scores, 2)
    assert selector.cut == pytest.approx(3.5, abs=1e-3)
    assert selector.choose(scores).tolist() == [[False, False, False, True], [True] * 4]


def test_what_does_not_fit_is_told():
    topk = dict(type='sparsevit_mm.MultiHeadSelector')
    for name in ('vit', 'pit', 'swin'):
        with pytest.raises(ValueError, match=r"counts='adaptive' .*draw='batch'.*MultiHeadSelector has draw='topk'"):
            build(name, selector=topk)
        with pytest.raises(ValueError, match=r"counts='adaptive'.*MagnitudeSelector has draw=None"):
            build(name, selector=dict(type='sparsevit_mm.MagnitudeSelector'))
        with pytest.raises(ValueError, match=r'counts of Pruned.*|counts of SparseSwin must be one of'):
            build(name, counts='some')
        with pytest.raises(ValueError, match=r"has counts='adaptive'.*Set counts='fixed' to draw or search"):
            build(name).sparsity_space()
    with pytest.raises(ValueError, match=r"learn_from='kept'.*all windows are computed in training"):
        build('swin', selector=dict(FREE, learn_from='kept'))
    with pytest.raises(ValueError, match=r"stage2.pair1, stage2.pair2 is \(0.2, 0.5\), but with counts='adaptive'"):
        build('swin', sparsity=(0.5, 0.2, 0.5))
    with pytest.raises(ValueError, match=r"draw='gumbel', but a fixed number of windows .*counts='adaptive'"):
        build('swin', counts='fixed')


def test_packed_tokens_come_back():
    tokens, mask = torch.randn(2, 4, 3), torch.tensor([[True, False, True, True], [False, True, False, False]])
    packed = PackedTokens.pack(tokens, mask)
    assert packed.lengths == (3, 1)
    torch.testing.assert_close(packed.rows, torch.cat([tokens[0, [0, 2, 3]], tokens[1, [1]]]))
    torch.testing.assert_close(packed.put(tokens.clone()), tokens)
    assert kept_indices(mask).tolist() == [[0, 2, 3], [1, -1, -1]]


def test_keep_above_keeps_one_at_least_and_no_forbidden_one():
    scores = torch.tensor([[1.0, -1, 2], [-3, -2, -2], [5, -1, -4]])
    assert keep_above(scores).tolist() == [[True, False, True], [False, True, False], [True, False, False]]
    allowed = torch.tensor([[True, True, False], [True, False, True], [False, False, True]])
    assert keep_above(scores, allowed).tolist() == [[True, False, False], [False, False, True], [False, False, True]]
