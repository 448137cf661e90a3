import copy

import pytest
import torch
from mmdet.models.backbones.swin import SwinTransformer
from mmengine.model import ExponentialMovingAverage

from sparsevit_mm.compat import has_custom_operators
from sparsevit_mm.models import SparseSwin
from sparsevit_mm.sparsity import keep_count

from .conftest import randomize


@pytest.fixture
def backbone(tiny_swin_cfg) -> SparseSwin:
    model = SparseSwin(**tiny_swin_cfg)
    model.init_weights()
    return randomize(model).eval()


def test_sites_count_from_one_within_stages():
    with torch.device('meta'):
        assert SparseSwin().sites == (
            'stage1.pair1', 'stage2.pair1', 'stage3.pair1', 'stage3.pair2', 'stage3.pair3', 'stage4.pair1'
        )  # fmt: skip
        odd = SparseSwin(depths=(1, 3), num_heads=(3, 6), strides=(4, 2), out_indices=(0, 1))
    assert odd.sites == ('stage1.pair1', 'stage2.pair1', 'stage2.pair2')


def test_builds_from_a_config_under_a_foreign_default_scope():
    from mmdet.registry import MODELS as MMDET_MODELS

    with torch.device('meta'):
        model = MMDET_MODELS.build(dict(type='sparsevit_mm.SparseSwin', sparsity=(0.6, 0, 0.2, 0.4, 0.5, 0)))
        assert isinstance(model, SparseSwin) and model.sparsity == (0.6, 0, 0.2, 0.4, 0.5, 0)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(sparsity=(0.1, 0.2)), '2 values .* 3 sites'),
        (dict(sparsity=(0, 0.5, 0.2)), 'must not decrease'),
        (dict(sparsity=1.0), r'must lie in \[0, 1\)'),
        (dict(bypass='reuse'), r"bypass of SparseSwin must be one of .*got 'reuse'"),
        (dict(depths=(2, 0)), 'depths must give at least one block'),
        (dict(num_heads=(2,)), r'num_heads \(2,\) has 1 values .* 2 stages'),
        (dict(num_heads=(3, 4)), r'num_heads\[0\]=3 must divide the 16 channels'),
        (dict(patch_size=2), r'strides\[0\]=4 must equal patch_size=2'),
        (dict(out_indices=(0, 2)), 'out_indices must be distinct stages from 0 to 1'),
        (dict(frozen_stages=7), 'frozen_stages must be from -1 to 2'),
        (dict(window_size=0), 'window_size must be an int from 1 on'),
        (dict(window_size=(7, 7)), r'window_size must be an int from 1 on.*got \(7, 7\)'),
        (dict(drop_path_rate=1.5), r'drop_path_rate is a probability from 0 to 1, got 1\.5'),
        (dict(selector='MagnitudeSelector'), "selector must be a config such as .*got 'MagnitudeSelector'"),
        (dict(selector=dict(type='sparsevit_mm.Magnitude')), 'selector .* cannot be built.*MagnitudeSelector'),
        (dict(selector=dict(type='sparsevit_mm.MagnitudeSelector', heads=2)), 'selector .* cannot be built.*heads'),
        (
            dict(selector=dict(type='sparsevit_mm.SparseSwin', num_heads=(1, 1, 1, 1))),
            'is a SparseSwin and no selector',
        ),
        (dict(pretrain_img_size=(1, 2, 3)), 'pretrain_img_size must be an int or two'),
        (dict(pretrained='a.pth', init_cfg=dict(type='Pretrained')), 'pretrained and init_cfg are both given'),
    ],
    ids=lambda value: str(value)[:40],
)
def test_constructor_says_what_is_wrong(tiny_swin_cfg, arguments, message):
    with pytest.raises(ValueError, match=message):
        SparseSwin(**tiny_swin_cfg | arguments)


def test_a_refused_sparsity_changes_nothing(backbone):
    backbone.sparsity = 0.5
    with pytest.raises(ValueError, match='must not decrease'):
        backbone.sparsity = (0, 0.5, 0.4)
    assert backbone.sparsity == (0.5, 0.5, 0.5)


def test_kept_windows_follow_the_one_rule_and_are_nested(backbone):
    backbone.sparsity = (0.3, 0.2, 0.65)
    with backbone.record_selections() as records:
        backbone(torch.randn(2, 3, 160, 224))
    assert [record.site for record in records] == ['stage1.pair1'] * 2 + ['stage2.pair1'] * 2 + ['stage2.pair2'] * 2
    for record, sparsity in zip(records, (0.3, 0.3, 0.2, 0.2, 0.65, 0.65)):
        assert record.kept.shape == (2, keep_count(record.num_units, sparsity))
        assert all(len(set(row.tolist())) == len(row) for row in record.kept)
    for early, late in ((records[2], records[4]), (records[3], records[5])):
        assert all(set(b.tolist()) <= set(a.tolist()) for a, b in zip(early.kept, late.kept))
    assert not torch.equal(records[0].kept, records[1].kept)  # plain and shifted windows are ranked apart


def test_windows_with_the_largest_features_stay(backbone):
    # A picture that is black but for one corner; the tiny network's first site must keep that corner.
    images = torch.zeros(1, 3, 112, 112)
    images[..., :28, 84:] = 8 * torch.randn(3, 28, 28)
    x, _ = backbone.patch_embed(images)
    scores = x.abs().mean(-1).view(4, 7, 4, 7).transpose(1, 2).flatten(2).norm(dim=-1)
    backbone.sparsity = (0.9, 0, 0)
    with backbone.record_selections() as records:
        backbone(images)
    assert records[0].kept.flatten().tolist() == [scores.flatten().argmax().item()]


def test_an_image_never_depends_on_its_neighbours(backbone):
    backbone.sparsity = (0.5, 0.3, 0.6)
    images = torch.randn(4, 3, 100, 130)
    alone = [backbone(image[None]) for image in images]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        together = backbone(images[order])
        for level, out in enumerate(together):
            for place, image in enumerate(order):
                torch.testing.assert_close(out[place], alone[image][level][0], atol=1e-5, rtol=1e-4)


def test_selection_does_not_depend_on_the_number_of_threads(backbone):
    backbone.sparsity = 0.5
    images = torch.randn(2, 3, 224, 224)
    kept, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with backbone.record_selections() as records:
                backbone(images)
            kept.append([record.kept for record in records])
    finally:
        torch.set_num_threads(threads)
    for others in kept[1:]:
        assert all(torch.equal(a, b) for a, b in zip(kept[0], others))


@pytest.mark.parametrize('with_cp', [False, True])
def test_training_and_inference_are_one_path(tiny_swin_cfg, with_cp):
    model = SparseSwin(**tiny_swin_cfg, drop_path_rate=0.0, sparsity=0.5, with_cp=with_cp)
    model.init_weights()
    randomize(model)
    images = torch.randn(2, 3, 100, 130)
    trained = model.train()(images)
    with torch.no_grad():
        tested = model.eval()(images)
    for a, b in zip(trained, tested):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_checkpointing_gives_the_same_gradients(tiny_swin_cfg):
    models = [SparseSwin(**tiny_swin_cfg, drop_path_rate=0.3, drop_rate=0.1, with_cp=cp) for cp in (False, True)]
    models[0].init_weights()
    models[1].load_state_dict(models[0].state_dict())
    images = torch.randn(2, 3, 100, 130)
    for model in models:
        model.train()
        model.sparsity = (0.4, 0.2, 0.6)
        torch.manual_seed(7)
        sum(out.square().mean() for out in model(images)).backward()
    for (name, a), b in zip(models[0].named_parameters(), models[1].parameters()):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_drop_path_is_drawn_for_an_image(tiny_swin_cfg):
    model = SparseSwin(**tiny_swin_cfg | dict(depths=(1, 1)), drop_path_rate=0.9, sparsity=0.4)
    model.init_weights()
    randomize(model).train()
    block = model.stages[1].blocks[0]  # the last one: both of its branches are dropped in nine images of ten
    inputs, outputs = [], []
    block.register_forward_pre_hook(lambda _, args: inputs.append(args[0].clone()))
    block.register_forward_hook(lambda _, args, out: outputs.append(out.clone()))
    model(torch.randn(1, 3, 112, 112).expand(32, -1, -1, -1))
    changed = (outputs[0] - inputs[0]).view(32, -1, 32).abs().amax(-1) > 0
    whole = changed.sum(1)
    assert 0 < (whole > 0).sum() < 32  # some images skip both branches
    assert len({count for count in whole.tolist() if count}) == 1  # the others change in all kept windows


@pytest.mark.parametrize('frozen', [0, 1, 2])
def test_frozen_stages(tiny_swin_cfg, frozen):
    model = SparseSwin(**tiny_swin_cfg, frozen_stages=frozen, sparsity=0.4)
    model.init_weights()
    model.train()
    assert not model.patch_embed.training
    for i, stage in enumerate(model.stages):
        assert stage.training == (i >= frozen)
        assert all(parameter.requires_grad == (i >= frozen) for parameter in stage.parameters())
        assert all(p.requires_grad == (i >= frozen) for p in getattr(model, f'norm{i}').parameters())
    loss = sum(out.square().mean() for out in model(torch.randn(1, 3, 112, 112)))
    if frozen < 2:
        loss.backward()
        assert model.patch_embed.projection.weight.grad is None
        assert model.norm1.weight.grad is not None


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_on_the_cpu(backbone, dtype):
    if dtype == torch.float16 and not has_custom_operators():
        pytest.skip('torch is older than 2.4: its autocast on the CPU is to bfloat16 alone')
    images = torch.randn(2, 3, 112, 130)
    backbone.sparsity = (0.5, 0.2, 0.4)
    exact = backbone(images)
    backbone.train()
    with torch.autocast('cpu', dtype=dtype):
        outs = backbone(images)
    sum(out.float().square().mean() for out in outs).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in backbone.parameters())
    backbone.eval()
    # Selections can flip by rounding; with every window kept the maps are close.
    backbone.sparsity = 0
    exact = backbone(images)
    with torch.autocast('cpu', dtype=dtype), torch.no_grad():
        for a, b in zip(exact, backbone(images)):
            assert (a - b.float()).abs().mean() < 0.05 * a.abs().mean()


@pytest.mark.cuda
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_cuda_equals_cpu(backbone, dtype):
    images = torch.randn(2, 3, 112, 130)
    backbone.sparsity = (0.5, 0.2, 0.4) if dtype is torch.float32 else 0
    exact = backbone(images)
    backbone.cuda()
    with torch.autocast('cuda', dtype=dtype, enabled=dtype is not torch.float32), torch.no_grad():
        for a, b in zip(exact, backbone(images.cuda())):
            assert (a - b.float().cpu()).abs().mean() < (1e-4 if dtype is torch.float32 else 0.05) * a.abs().mean()


def test_multi_scale_caches_are_bounded(backbone):
    backbone.sparsity = 0.5
    for side in range(32, 32 + 4 * 80, 4):
        backbone(torch.randn(1, 3, side, 40))
    assert all(len(stage._grids) <= stage._grids.max_items for stage in backbone.stages)


def test_caches_filled_in_inference_mode_do_not_break_training(backbone):
    backbone.sparsity = 0.5
    images = torch.randn(1, 3, 100, 130)
    with torch.inference_mode():
        backbone(images)
    backbone.train()
    sum(out.square().mean() for out in backbone(images)).backward()


def test_sparse_checkpoint_loads_into_the_stock_dense_model(backbone, tiny_swin_cfg):
    backbone.sparsity = 0.5
    stock = SwinTransformer(**tiny_swin_cfg)
    result = stock.load_state_dict(backbone.state_dict())
    assert not result.missing_keys and not result.unexpected_keys
    stock.eval()
    backbone.sparsity = 0
    images = torch.randn(1, 3, 100, 130)
    for a, b in zip(backbone(images), stock(images)):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_averaged_copy_has_its_own_sparsity(backbone):
    backbone.sparsity = 0.5
    average = ExponentialMovingAverage(backbone)
    backbone.sparsity = 0.8
    assert average.module.sparsity == (0.5, 0.5, 0.5)
    average.update_parameters(backbone)
    average.module(torch.randn(1, 3, 64, 64))
    assert copy.deepcopy(backbone).sparsity == (0.8, 0.8, 0.8)


def test_absolute_positions_are_resized_to_the_map(tiny_swin_cfg):
    model = SparseSwin(**tiny_swin_cfg, use_abs_pos_embed=True, pretrain_img_size=64)
    model.init_weights()
    for size in (64, 96):
        assert model(torch.randn(1, 3, size, size))[0].shape[-2:] == (size // 4, size // 4)
    with torch.no_grad():
        model.absolute_pos_embed.copy_(torch.ones_like(model.absolute_pos_embed))
    torch.testing.assert_close(model._position_embedding((10, 13)), torch.ones(1, 130, 16))


def test_pretrained_argument_still_works(tiny_swin_cfg, tmp_path, backbone):
    torch.save(dict(state_dict=backbone.state_dict()), tmp_path / 'a.pth')
    model = SparseSwin(**tiny_swin_cfg, pretrained=str(tmp_path / 'a.pth'))
    model.init_weights()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), backbone.parameters()))


def test_records_nest_and_end(backbone):
    images = torch.randn(1, 3, 64, 64)
    with backbone.record_selections() as outer:
        with backbone.record_selections() as inner:
            backbone(images)
        assert len(inner) == 6 and not outer
        backbone(images)
    backbone(images)
    assert len(outer) == 6
    assert all(record.token_mask().all() for record in outer)
