"""PrunedViT: the stock ViT at sparsity 0, the same map by both of its paths, tokens at their places."""

import pytest
import torch

from sparsevit_mm.cost import count_macs, measure_macs
from sparsevit_mm.models import PrunedViT
from sparsevit_mm.models.layers.vit_block import masked_softmax
from sparsevit_mm.selectors import Selector

TINY = dict(img_size=64, patch_size=16, embed_dims=32, num_layers=5, num_heads=4, out_indices=(0, 2, 4))
PACKED = dict(bypass='package', package='separate')
MERGED = dict(bypass='package', package='merged')
BYPASSES = [{}, PACKED, MERGED, MERGED | dict(unfold='reuse')]
SELECTORS = ('PredictorSelector', 'MagnitudeSelector', 'RandomSelector', 'ClassAttentionSelector')


def tiny(selector: str | dict = 'PredictorSelector', **kwargs) -> PrunedViT:
    selector = dict(type=f'sparsevit_mm.{selector}') if isinstance(selector, str) else selector
    arguments = dict(TINY, site_blocks=(1, 3), selector=selector) | kwargs
    model = PrunedViT(**arguments)
    model.init_weights()
    # At their initial values class attention and predictions hardly differ between tokens.
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


def stock(model: PrunedViT, **kwargs):
    vit = pytest.importorskip('mmseg.models.backbones').VisionTransformer(**TINY, **kwargs)
    missing = vit.load_state_dict(model.state_dict(), strict=False).missing_keys
    assert not missing
    return vit


@pytest.mark.parametrize('size', [(64, 64), (70, 90), (16, 160)])
@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(final_norm=True, pre_norm=True, patch_norm=True, patch_bias=True, qkv_bias=False, num_fcs=3),
        dict(with_cls_token=False, out_origin=True, interpolate_mode='bilinear'),
        dict(output_cls_token=True, mlp_ratio=2, act_cfg=dict(type='ReLU')),
    ],
)
def test_dense_is_the_stock_vit(size, options):
    model = tiny(**options)
    other = stock(model, **options)
    image = torch.randn(2, 3, *size)
    for mode in (True, False):
        model.train(mode)
        other.train(mode)
        for module in (model, other):
            module.zero_grad()
        ours, theirs = (_maps(module(image)) for module in (model, other))
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-4)
        if mode:
            sum(a.square().mean() for a in ours).backward()
            sum(b.square().mean() for b in theirs).backward()
            own = dict(model.named_parameters())
            for name, parameter in other.named_parameters():
                if parameter.grad is not None:
                    torch.testing.assert_close(own[name].grad, parameter.grad, rtol=1e-3, atol=1e-5)


def _maps(outs: tuple) -> list[torch.Tensor]:
    return [part for out in outs for part in (out if isinstance(out, list) else [out])]


@pytest.mark.parametrize('bypass', BYPASSES)
@pytest.mark.parametrize('reactivate', [False, True])
def test_masked_and_gathered_give_the_same_maps(reactivate, bypass):
    selector = dict(type='sparsevit_mm.PredictorSelector', noise=0)
    options = dict(reactivate=reactivate, final_norm=True, output_cls_token=True, **bypass)
    model = tiny(selector, sparsity=(0.3, 0.6), **options)
    image = torch.randn(3, 3, 80, 96)
    with model.record_selections() as masked_records:
        masked = model.train()(image)
    with torch.no_grad(), model.record_selections() as records:
        gathered = model.eval()(image)
    for a, b in zip(_maps(masked), _maps(gathered)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    for a, b in zip(masked_records, records):
        assert a.site == b.site and torch.equal(a.token_mask(), b.token_mask())


@pytest.mark.parametrize('reactivate', [False, True])
@pytest.mark.parametrize('selector', SELECTORS)
def test_pruned_is_a_plain_forward_over_the_kept_tokens(selector, reactivate):
    """Block by block over ``x[kept]`` of each image, with the kept tokens that were recorded."""
    model = tiny(selector, sparsity=(0.3, 0.6), reactivate=reactivate, out_indices=(4,))
    image = torch.randn(2, 3, 80, 96)
    with torch.no_grad(), model.record_selections() as records:
        (out,) = model(image)
        kept = {record.block: record.kept for record in records}
        for i in range(2):
            x = model._embed(image[i : i + 1])[0]
            for block, layer in enumerate(model.layers):
                places = slice(None)
                if block in kept:
                    places = torch.cat([torch.zeros(1, dtype=torch.long), kept[block][i] + 1])
                x[:, places] = layer(x[:, places])
            torch.testing.assert_close(out[i].flatten(1), x[0, 1:].T, rtol=1e-4, atol=1e-5)


def test_dropped_tokens_keep_their_last_features_in_every_map():
    model = tiny(sparsity=(0.5, 0.5), out_indices=(0, 1, 2, 4))
    with torch.no_grad(), model.record_selections() as records:
        before, *later = model(torch.randn(2, 3, 64, 64))
    dropped = ~records[0].token_mask()
    for out in later:
        same = (out == before).all(1)
        assert torch.equal(same, dropped), 'dropped tokens stand as they were, and only those'


def test_without_reactivation_later_sites_keep_a_part_and_with_it_they_may_choose_anew():
    image = torch.randn(2, 3, 96, 96)
    for reactivate, selector in ((False, 'MagnitudeSelector'), (True, 'PredictorSelector')):
        model = tiny(selector, sparsity=(0.5, 0.6), reactivate=reactivate)
        with torch.no_grad(), model.record_selections() as records:
            model(image)
        first, later = records[0].token_mask(), records[-1].token_mask()
        revived = (later & ~first).any()
        assert bool(revived) is reactivate


def test_reactivation_may_end_a_pause():
    class Reversed(Selector):
        """Prefers the last tokens at its first call and the first ones at the next."""

        sign = 1

        def forward(self, tokens, alive=None, class_attention=None):
            scores = torch.arange(tokens.shape[1]).float().expand(len(tokens), -1) * self.sign
            type(self).sign *= -1
            return scores

    model = tiny('MagnitudeSelector', sparsity=(0.75, 0.75), reactivate=True)
    model.site_selectors[0], model.site_selectors[1] = Reversed(), Reversed()
    with torch.no_grad(), model.record_selections() as records:
        model(torch.randn(1, 3, 64, 64))
    assert records[0].kept.tolist() == [[12, 13, 14, 15]] and records[-1].kept.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize('bypass', BYPASSES[:3])
@pytest.mark.parametrize('selector', SELECTORS)
def test_images_do_not_depend_on_their_batch(selector, bypass):
    model = tiny(selector, sparsity=(0.3, 0.6), **bypass)
    images = torch.randn(3, 3, 70, 90)
    with torch.no_grad():
        together = model(images)[-1]
        alone = torch.cat([model(image[None])[-1] for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('bypass', BYPASSES)
@pytest.mark.parametrize('sparsity', [0.0, (0.0, 0.5), 0.5])
@pytest.mark.parametrize('draw', ['topk', 'gumbel'])
def test_every_parameter_gets_a_gradient(sparsity, draw, bypass):
    model = tiny(selector='PredictorSelector', sparsity=sparsity, **bypass).train()
    for selector in model.site_selectors:
        selector.draw = draw
    sum(out.square().mean() for out in model(torch.randn(2, 3, 64, 64))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    active = [i for i, value in enumerate(model.sparsity) if value]
    for i in active:
        assert model.site_selectors[i].in_conv[1].weight.grad.abs().sum() > 0
    assert list(model.keep_ratios) == [model.sites[i] for i in active]


def test_selectors_that_do_not_learn_train_on_fewer_tokens():
    model = tiny('ClassAttentionSelector', sparsity=0.5).train()
    seen = []
    model.layers[-1].register_forward_hook(lambda module, args, out: seen.append(args[0].shape[1]))
    sum(out.square().mean() for out in model(torch.randn(2, 3, 64, 64))).backward()
    assert seen == [1 + 8]
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize('bypass', BYPASSES[:3])
def test_checkpointing_changes_nothing(bypass):
    grads = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = tiny(sparsity=0.5, with_cp=with_cp, **bypass).train()
        torch.manual_seed(1)
        sum(out.square().mean() for out in model(torch.randn(2, 3, 64, 64))).backward()
        grads.append([parameter.grad.clone() for parameter in model.parameters()])
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('bypass', BYPASSES[:3])
@pytest.mark.parametrize('training', [True, False])
def test_bfloat16_autocast(training, bypass):
    model = tiny(sparsity=0.5, **bypass).train(training)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        outs = model(torch.randn(2, 3, 64, 64))
        sum(out.float().square().mean() for out in outs).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


def test_masked_softmax_leaves_out_the_dropped_and_is_finite_without_any():
    scores = torch.randn(1, 2, 4, 4)
    weights = masked_softmax(scores, torch.tensor([[1.0, 0, 1, 0]]))
    expected = scores[:, :, 0][..., [0, 2]].softmax(-1)
    torch.testing.assert_close(weights[:, :, 0][..., [0, 2]], expected, rtol=1e-4, atol=1e-5)
    assert weights[:, :, 0, 1].max() < 1e-6, 'a dropped token is not attended to'
    assert weights[0, 0, 1, 1] > 0.01, 'but by itself'
    assert masked_softmax(200 * scores, torch.zeros(1, 4)).isfinite().all()


def test_the_gradient_of_a_dropped_token_is_that_of_the_weight_it_would_have():
    """Also where it would dominate: e / sum, as published, would be e ** 30 here."""
    scores = torch.zeros(1, 1, 4, 4)
    scores[..., 1] = 30.0
    alive = torch.tensor([[1.0, 0, 1, 1]], requires_grad=True)
    values = torch.tensor([0.0, 1, 0, 0])
    (masked_softmax(scores, alive) @ values)[0, 0, 0].backward()
    torch.testing.assert_close(alive.grad[0, 1], torch.tensor(1.0), rtol=1e-3, atol=1e-3)
    scores[..., 1] = 0.0
    alive.grad = None
    (masked_softmax(scores, alive) @ values)[0, 0, 0].backward()
    torch.testing.assert_close(alive.grad[0, 1], torch.tensor(1 / 4), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('reactivate', [False, True])
@pytest.mark.parametrize('selector', SELECTORS)
@pytest.mark.parametrize(
    'options', [{}, dict(patch_pad=4, num_fcs=3), dict(layer_scale_init_value=0.1), PACKED, MERGED]
)
def test_macs_are_what_runs(selector, reactivate, options):
    model = tiny(selector, sparsity=(0.3, 0.6), reactivate=reactivate, **options)
    assert measure_macs(model, (70, 90)) == pytest.approx(count_macs(model, (70, 90)), rel=0.001)


@pytest.mark.parametrize(
    ('sparsity', 'published'),
    [(0, 4.6), ((0.1, 0.19, 0.271), 4.0), ((0.2, 0.36, 0.488), 3.4), ((0.3, 0.51, 0.657), 2.9)],
)
def test_macs_of_deit_small_are_those_of_dynamicvit(sparsity, published):
    """DynamicViT, table 1: keep ratios 1, 0.9, 0.8 and 0.7 at 224x224. Its figures are cut off, not rounded."""
    model = PrunedViT(embed_dims=384, num_heads=6, patch_bias=True, final_norm=True, sparsity=sparsity)
    assert count_macs(model, (224, 224)) / 1e9 == pytest.approx(published, abs=0.11)


@pytest.mark.parametrize(
    ('sparsity', 'expected'), [((0.383, 0.631, 0.863), 2.46), ((0.3, 0.61, 0.79), 2.65)], ids=['code', 'paper']
)
def test_macs_of_deit_small_are_those_of_spvit(sparsity, expected):
    """At the keep ratios of its code and at those of its logs, which give the paper's number; selectors below 1 %."""

    def macs(selector: str) -> float:
        chosen = dict(type=f'sparsevit_mm.{selector}')
        size = dict(embed_dims=384, num_heads=6, patch_bias=True, final_norm=True)
        return count_macs(PrunedViT(**size, sparsity=sparsity, selector=chosen, bypass='package'), (224, 224)) / 1e9

    before = macs('RandomSelector')
    assert before == pytest.approx(expected, abs=0.02)
    assert macs('MultiHeadSelector') < before / 0.99


@pytest.mark.parametrize('selector', ['PredictorSelector', 'MagnitudeSelector'])
@pytest.mark.parametrize('package', ['separate', 'merged'])
def test_packages_take_part_and_hand_on_what_they_learned(selector, package):
    """Image by image, with lists instead of masks and gathers, and the selections that were recorded."""
    model = tiny(selector, sparsity=(0.3, 0.6), bypass='package', package=package, out_indices=(2, 4))
    images = torch.randn(2, 3, 64, 80)
    with torch.no_grad(), model.record_selections() as records:
        outs = model(images)
        kept = {record.block: record.kept for record in records}
        for b in range(2):
            x = model._embed(images[b : b + 1])[0][0]  # [1 + L, C]
            alive, packages = list(range(1, len(x))), []  # of (token, as it was, mass, members)
            for block, layer in enumerate(model.layers):
                if block in model.site_blocks:
                    stay = (kept[block][b] + 1).tolist()
                    gone = [t for t in alive if t not in stay]
                    weights = torch.ones(len(gone))
                    if selector == 'PredictorSelector':
                        site = model.site_selectors[model.site_blocks.index(block)]
                        odds = dict(zip(alive, site(x[alive][None])[0]))
                        weights = torch.stack([odds[t] for t in gone]).sigmoid()
                    token, mass = (weights @ x[gone]) / weights.sum(), weights.sum()
                    if packages and package == 'merged':
                        (old, _, old_mass, old_gone) = packages.pop()
                        token, mass, gone = (
                            (old * old_mass + token * mass) / (old_mass + mass),
                            old_mass + mass,
                            gone + old_gone,
                        )
                    packages.append((token, token, mass, gone))
                    alive = stay
                rows = [0, *alive]
                y = layer(torch.stack([*x[rows], *(package[0] for package in packages)])[None])[0]
                x[rows] = y[: len(rows)]
                for i, (token, _, mass, gone) in enumerate(packages):
                    new = y[len(rows) + i]
                    x[gone] += new - token
                    packages[i] = (new, new, mass, gone)
                if block in (2, 4):
                    out = outs[(2, 4).index(block)][b].flatten(1).T
                    torch.testing.assert_close(out, x[1:], rtol=1e-3, atol=1e-4)


def test_a_package_without_members_is_not_attended_to():
    """Where free decisions drop nothing there is no package, and no 0 / 0."""
    selector = dict(type='sparsevit_mm.PredictorSelector', draw='gumbel', noise=0)
    model = tiny(selector, sparsity=0.5, bypass='package').train()
    for site in model.site_selectors:
        site.out_conv[-2].weight.data.zero_()
        site.out_conv[-2].bias.data = torch.tensor([5.0, -5.0])  # all stay
    image = torch.randn(2, 3, 64, 64)
    outs = model(image)
    model.sparsity = 0.0
    for a, b in zip(outs, model(image)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    sum(out.square().mean() for out in outs).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


def test_records_show_where_the_tokens_stand():
    model = tiny('RandomSelector', sparsity=0.5)
    with torch.no_grad(), model.record_selections() as records:
        model(torch.randn(2, 3, 48, 80))
    assert [(record.site, record.block) for record in records] == [
        ('block1', 1),
        ('block1', 2),
        ('block3', 3),
        ('block3', 4),
    ]
    assert all(record.num_units == 15 and record.kept.shape == (2, 7) for record in records)
    mask = records[0].token_mask()
    assert mask.shape == (2, 3, 5) and mask.flatten(1).nonzero()[:, 1].tolist() == records[0].kept.flatten().tolist()


def test_bad_arguments():
    with pytest.raises(ValueError, match=r'site_blocks must be blocks from 0 to 4, since num_layers=5; got \(1, 5\)'):
        tiny(site_blocks=(1, 5))
    with pytest.raises(ValueError, match=r'site_blocks must ascend without repeats, got \(3, 1\); try \(1, 3\)'):
        tiny(site_blocks=(3, 1))
    with pytest.raises(ValueError, match=r'sparsity must not decrease within a stage'):
        tiny(sparsity=(0.5, 0.2))
    for option in ('bypass', 'package', 'unfold'):
        with pytest.raises(ValueError, match=f"{option} of PrunedViT must be one of .*, got 'fast'"):
            tiny(**{option: 'fast'})
    with pytest.raises(ValueError, match='num_heads=5 must divide embed_dims=32'):
        tiny(num_heads=5)
    with pytest.raises(ValueError, match='ClassAttentionSelector ranks by the class token, but with_cls_token=False'):
        tiny('ClassAttentionSelector', with_cls_token=False)
    with pytest.raises(ValueError, match='out_indices must be distinct blocks from 0 to 4'):
        tiny(out_indices=(2, 7))
    with pytest.raises(ValueError, match=r'48x50 pixels, but with patch_pad=None .* multiples of patch_size=16'):
        tiny(patch_pad=None)(torch.randn(1, 3, 48, 50))


def test_no_sites_is_a_plain_vit():
    model = tiny(site_blocks=())
    assert model.sites == () and model.sparsity == ()
    assert model(torch.randn(1, 3, 60, 60))[-1].shape == (1, 32, 4, 4)
