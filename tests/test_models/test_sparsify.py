import copy

import mmdet.models.backbones.swin as mmdet_swin
import mmseg.models.backbones.swin as mmseg_swin
import pytest
import torch
from torch import nn

import sparsevit_mm
from sparsevit_mm.models import (
    DynamicConvNeXt,
    DynamicSwin,
    PrunedViT,
    SparseSwin,
    find_sparse_backbone,
    sparsify,
)
from sparsevit_mm.models.checkpoints import is_grown

from .conftest import randomize
from .test_dynamic_convnext import ChannelNorm, PlainConvNeXt

TINY = dict(embed_dims=16, depths=(2, 3), num_heads=(2, 4), strides=(4, 2), out_indices=(0, 1))


class Segmentor(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv2d(32, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x)[-1])


def segmentor(stock=mmdet_swin.SwinTransformer, **arguments) -> Segmentor:
    backbone = stock(**TINY | arguments)
    backbone.init_weights()
    model = Segmentor(randomize(backbone))
    model.eval()
    return model


@pytest.mark.parametrize('stock', [mmdet_swin.SwinTransformer, mmseg_swin.SwinTransformer])
@pytest.mark.parametrize(
    'arguments',
    [
        dict(),
        dict(window_size=12, mlp_ratio=2, qk_scale=0.4, qkv_bias=False),
        dict(patch_norm=False, strides=(4, 4), out_indices=(1,)),
        dict(use_abs_pos_embed=True, pretrain_img_size=112),
        dict(norm_cfg=dict(type='LN', eps=1e-2), act_cfg=dict(type='ReLU')),
    ],
    ids=str,
)
def test_a_stock_model_stays_what_it_is_at_sparsity_zero(stock, arguments):
    model = segmentor(stock, **arguments)
    images = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        before = model(images)
        assert sparsify(model, 0) is model
        assert isinstance(model.backbone, SparseSwin)
        torch.testing.assert_close(model(images), before, atol=1e-4, rtol=1e-4)
        model.backbone.sparsity = 0.7
        assert not torch.allclose(model(images), before, atol=1e-3)


def test_parameters_are_the_same_objects_and_optimizers_hold_on():
    model = segmentor()
    named = dict(model.named_parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsify(model, (0.5, 0, 0.5))
    assert {name: id(p) for name, p in model.named_parameters()} == {name: id(p) for name, p in named.items()}
    before = model.backbone.stages[1].blocks[2].attn.w_msa.qkv.weight.clone()
    model.train()
    model(torch.randn(1, 3, 112, 112)).square().mean().backward()
    optimizer.step()
    assert not torch.equal(model.backbone.stages[1].blocks[2].attn.w_msa.qkv.weight, before)


def test_state_of_modules_is_kept():
    model = segmentor(drop_path_rate=0.3, drop_rate=0.1, attn_drop_rate=0.2, frozen_stages=1, with_cp=True)
    model.train()
    stock = copy.deepcopy(model.backbone)
    backbone = sparsify(model, 0.5).backbone
    assert backbone.training and not backbone.stages[0].training and backbone.frozen_stages == 1
    for ours, theirs in zip(backbone.stages, stock.stages):
        for a, b in zip(ours.blocks, theirs.blocks):
            assert a.attn.drop.drop_prob == b.attn.drop.drop_prob
            assert (a.attn.w_msa.attn_drop.p, a.attn.w_msa.proj_drop.p, a.with_cp) == (0.2, 0.1, True)
    assert not any(p.is_meta for p in backbone.parameters()) and not any(b.is_meta for b in backbone.buffers())
    assert set(backbone.state_dict()) == set(stock.state_dict())
    assert {n for n, p in backbone.named_parameters() if p.requires_grad} == {
        n for n, p in stock.named_parameters() if p.requires_grad
    }


def test_on_a_model_of_ours_it_sets_the_sparsity():
    model = Segmentor(SparseSwin(**TINY))
    backbone = model.backbone
    assert sparsevit_mm.sparsify(model, 0.4).backbone is backbone
    assert backbone.sparsity == (0.4,) * 3
    with pytest.raises(ValueError, match='sparse already; selector can only be chosen when it is built'):
        sparsify(model, 0.4, selector=dict(type='sparsevit_mm.RandomSelector'))


def test_options_reach_the_backbone():
    backbone = sparsify(segmentor(), 0.5, selector=dict(type='sparsevit_mm.RandomSelector', seed=5)).backbone
    assert backbone.stages[0].selector.seed == 5


def test_a_bare_backbone_gives_its_sparse_form():
    stock = segmentor().backbone
    sparse = sparsify(stock, 0.5)
    assert isinstance(sparse, SparseSwin)
    assert sparse.patch_embed.projection.weight is stock.patch_embed.projection.weight


@pytest.mark.parametrize(
    ('make', 'options', 'message'),
    [
        (lambda: Segmentor(nn.Conv2d(3, 32, 1)), {}, r'no backbone that we know \(Conv2d\).*SwinTransformer of mmdet'),
        (lambda: nn.ModuleList([segmentor(), segmentor()]), {}, 'has 2 backbones that could be meant'),
        (segmentor, dict(sparsity=0.95e1), r'must lie in \[0, 1\)'),
        (
            segmentor,
            dict(backbone_type='PrunedViT'),
            "'PrunedViT' is no sparse form of SwinTransformer",
        ),
        (segmentor, dict(temperature=1), 'an option that SparseSwin does not take'),
    ],
)
def test_mistakes(make, options, message):
    model = make()
    kinds = [type(module) for module in model.modules()]
    with pytest.raises(ValueError, match=message):
        sparsify(model, **options)
    assert [type(module) for module in model.modules()] == kinds


def test_find_sparse_backbone():
    model = Segmentor(SparseSwin(**TINY))
    assert find_sparse_backbone(model) is model.backbone
    assert find_sparse_backbone(nn.DataParallel(model)) is model.backbone
    assert find_sparse_backbone(model.backbone) is model.backbone
    with pytest.raises(ValueError, match=r'no sparse backbone, its backbone is a SwinTransformer.*sparsify'):
        find_sparse_backbone(segmentor())
    with pytest.raises(ValueError, match='has 2 sparse backbones'):
        find_sparse_backbone(nn.ModuleList([model, SparseSwin(**TINY)]))


VIT = dict(img_size=64, patch_size=16, embed_dims=32, num_layers=4, num_heads=4, out_indices=(1, 3))


@pytest.mark.parametrize(
    'arguments',
    [
        {},
        dict(final_norm=True, pre_norm=True, patch_bias=True, qkv_bias=False, num_fcs=3, mlp_ratio=2),
        dict(with_cls_token=False, patch_norm=True, norm_cfg=dict(type='LN', eps=1e-2), act_cfg=dict(type='ReLU')),
        dict(out_origin=True, drop_path_rate=0.2, drop_rate=0.1, attn_drop_rate=0.3, with_cp=True, img_size=(48, 80)),
    ],
    ids=str,
)
def test_a_stock_vit_becomes_a_pruned_one(arguments):
    from mmseg.models.backbones import VisionTransformer

    stock = VisionTransformer(**VIT | arguments)
    stock.init_weights()
    randomize(stock)
    stock.eval()
    image, model = torch.randn(2, 3, 64, 90), nn.ModuleDict(dict(backbone=stock))
    with torch.no_grad():
        before = stock(image)
        sparse = sparsify(model, backbone_type='PrunedViT', site_blocks=(1, 3))['backbone']
        for a, b in zip(sparse(image), before, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        sparse.sparsity = 0.5
        assert not torch.allclose(sparse(image)[-1], before[-1], atol=1e-3)
    assert isinstance(sparse, PrunedViT) and not any(p.is_meta for p in sparse.parameters())
    own = dict(sparse.named_parameters())
    assert all(own[name] is parameter for name, parameter in stock.named_parameters())
    for ours, theirs in zip(sparse.layers, stock.layers):
        assert (ours.with_cp, ours.attn.attn_drop.p) == (theirs.with_cp, theirs.attn.attn.dropout)
        assert getattr(ours.ffn.dropout_layer, 'drop_prob', 0) == getattr(theirs.ffn.dropout_layer, 'drop_prob', 0)


def test_a_stock_swin_becomes_one_with_two_paths():
    model = segmentor(depths=(2, 4))
    before = dict(model.backbone.named_parameters())
    images = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        dense = model(images)
        sparsify(model, backbone_type='DynamicSwin', site_stage=1, site_blocks=(1, 2))
        torch.testing.assert_close(model(images), dense, atol=1e-4, rtol=1e-4)
        model.backbone.sparsity = 0.5
        assert model(images).isfinite().all()
    assert isinstance(model.backbone, DynamicSwin) and model.backbone.sites == ('stage2.block1', 'stage2.block2')
    after = dict(model.backbone.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())
    new = {name: p for name, p in after.items() if name not in before}
    assert new and all(is_grown(name) and not p.is_meta and p.isfinite().all() for name, p in new.items())
    with pytest.raises(ValueError, match='sparse already; backbone_type can only be chosen when it is built'):
        sparsify(model, 0.5, backbone_type='SparseSwin')


def test_a_stock_convnext_becomes_one_with_two_paths():
    """mmpretrain may be absent, so its place is taken by a reference with its names and attributes."""

    class Norm(ChannelNorm):
        eps = 1e-6

    class ConvNeXt(PlainConvNeXt):
        init_cfg = None

    ConvNeXt.__module__ = Norm.__module__ = 'mmpretrain.models.backbones.convnext'
    stock = randomize(ConvNeXt(depths=(1, 1, 4, 1), channels=(8, 12, 16, 20)))
    stock.channels, stock.out_indices, stock.frozen_stages = (8, 12, 16, 20), (0, 1, 2, 3), 0
    stock.gap_before_final_norm = False
    for module in stock.modules():
        if isinstance(module, ChannelNorm):
            module.__class__ = Norm
        module.with_cp = False
    image = torch.randn(2, 3, 96, 64)
    stock.eval()
    sparse = sparsify(stock, site_blocks=(1, 2))
    with torch.no_grad():
        for a, b in zip(sparse(image), stock(image), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        sparse.sparsity = 0.6
        assert sparse(image)[-1].isfinite().all()
    assert isinstance(sparse, DynamicConvNeXt) and sparse.sites == ('stage3.block1', 'stage3.block2')
    own = dict(sparse.named_parameters())
    assert all(own[name] is parameter for name, parameter in stock.named_parameters())


@pytest.mark.parametrize('counts', ['fixed', 'adaptive'])
@pytest.mark.parametrize('kind', ['swin', 'vit'])
def test_packages_and_counts_are_options(tiny_swin_cfg, kind, counts):
    if kind == 'swin':
        from mmdet.models.backbones import SwinTransformer

        stock = SwinTransformer(**tiny_swin_cfg)
    else:
        from mmseg.models.backbones import VisionTransformer

        stock = VisionTransformer(img_size=64, embed_dims=32, num_layers=11, num_heads=4, out_indices=(10,))
    randomize(stock)
    stock.eval()
    draw = 'gumbel' if counts == 'adaptive' else 'topk'
    selector = dict(type='sparsevit_mm.MultiHeadSelector', draw=draw)
    sparse = sparsify(stock, 0.0, bypass='package', counts=counts, selector=selector)
    assert (sparse.bypass, sparse.counts) == ('package', counts)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(sparse(image), stock(image), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        sparse.sparsity = 0.5
        with sparse.record_selections() as records:
            assert all(out.isfinite().all() for out in sparse(image))
        assert bool(sparse.kept_counts) == (counts == 'adaptive')
        assert records[-1].packed is not None
    with pytest.raises(ValueError, match=r"bypass of .* must be one of .*got 'fold'"):
        sparsify(stock, bypass='fold')


@pytest.mark.slow
def test_detector_goes_on_working_through_mmdet():
    import numpy as np
    from mmdet.apis import DetInferencer, inference_detector, init_detector

    config = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'
    from mmengine.hub import get_config

    cfg = get_config(config)
    cfg.model.backbone.init_cfg = None
    cfg.test_dataloader.dataset.pipeline[1].scale = (160, 128)  # inference rewrites the pipeline of the config it gets
    model = init_detector(copy.deepcopy(cfg), device='cpu', palette='coco')
    randomize(model.backbone)
    image = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    before = inference_detector(model, image).pred_instances
    sparsify(model, 0)
    after = inference_detector(model, image).pred_instances
    torch.testing.assert_close(before.bboxes, after.bboxes, atol=1e-2, rtol=1e-3)
    sparsify(model, 0.6)
    with find_sparse_backbone(model).record_selections() as records:
        inference_detector(model, image)
    assert records[0].kept.shape[1] < records[0].num_units

    inferencer = DetInferencer(model=cfg, weights=None, device='cpu', palette='coco')
    sparsify(inferencer.model, 0.5)
    result = inferencer(image, return_vis=False, no_save_vis=True)
    assert len(result['predictions']) == 1


@pytest.mark.slow
def test_segmentor_goes_on_working_through_mmseg():
    import numpy as np
    from mmengine.hub import get_config
    from mmseg.apis import MMSegInferencer, inference_model, init_model

    cfg = get_config('mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py')
    cfg.model.backbone.init_cfg = None
    cfg.model.pretrained = None
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.norm_cfg = dict(type='BN')
    cfg.test_pipeline[1].scale = (160, 128)
    cfg.test_dataloader.dataset.pipeline = cfg.test_pipeline
    model = init_model(copy.deepcopy(cfg), device='cpu')
    randomize(model.backbone)
    image = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    before = inference_model(model, image).seg_logits.data
    after = inference_model(sparsify(model, 0), image).seg_logits.data
    torch.testing.assert_close(before, after, atol=1e-3, rtol=1e-3)
    with find_sparse_backbone(sparsify(model, 0.6)).record_selections() as records:
        inference_model(model, image)
    assert records[0].kept.shape[1] < records[0].num_units

    inferencer = MMSegInferencer(model=cfg, device='cpu', dataset_name='ade20k')
    sparsify(inferencer.model, 0.5)
    assert inferencer(image, show=False)['predictions'].shape == (96, 128)
