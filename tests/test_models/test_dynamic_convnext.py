"""DynamicConvNeXt against a plain ConvNeXt; what it shares with DynamicSwin is in test_two_path.py."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsevit_mm.models import DynamicConvNeXt
from sparsevit_mm.models.checkpoints import is_grown
from sparsevit_mm.models.layers import TwoPathConvNeXtBlock

from .conftest import randomize
from .test_two_path import largest_difference, loss_of

TINY = dict(arch=dict(depths=(1, 2, 6, 1), channels=(8, 12, 16, 20)))
SPARSITY = (0.3, 0.5, 0.7)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of ``[B, C, H, W]``, written out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).square().mean(1, keepdim=True)
        return (x - mean) / (variance + 1e-6).sqrt() * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


class Response(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        energy = x.square().sum((2, 3), keepdim=True).sqrt()
        relative = energy / (energy.mean(1, keepdim=True) + 1e-6)
        return x + self.gamma.view(-1, 1, 1) * x * relative + self.beta.view(-1, 1, 1)


class Block(nn.Module):
    """Equation by equation, channels first; 1x1 convolutions whatever shape the weights are stored in."""

    def __init__(self, channels: int, linear: bool, scaled: bool, response: bool) -> None:
        super().__init__()
        self.depthwise_conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = ChannelNorm(channels)
        make = nn.Linear if linear else lambda *size: nn.Conv2d(*size, 1)
        self.pointwise_conv1, self.pointwise_conv2 = make(channels, 4 * channels), make(4 * channels, channels)
        if response:
            self.grn = Response(4 * channels)
        if scaled:
            self.gamma = nn.Parameter(torch.full((channels,), 1e-6))

    def mlp(self, x: Tensor) -> Tensor:
        first, second = self.pointwise_conv1, self.pointwise_conv2
        x = F.gelu(F.conv2d(self.norm(x), first.weight.flatten(1)[..., None, None], first.bias))
        x = self.grn(x) if hasattr(self, 'grn') else x
        x = F.conv2d(x, second.weight.flatten(1)[..., None, None], second.bias)
        return x * self.gamma.view(-1, 1, 1) if hasattr(self, 'gamma') else x

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.depthwise_conv(x))


class PlainConvNeXt(nn.Module):
    """The reference: ConvNeXt (arXiv 2201.03545) with the names of mmpretrain's parameters."""

    def __init__(
        self,
        depths: Sequence[int],
        channels: Sequence[int],
        linear: bool = True,
        scaled: bool = True,
        response: bool = False,
        pooled: bool = False,
    ) -> None:
        super().__init__()
        self.pooled = pooled
        self.downsample_layers = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(3, channels[0], 4, 4), ChannelNorm(channels[0]))]
        )
        for a, b in pairwise(channels):
            self.downsample_layers.append(nn.Sequential(ChannelNorm(a), nn.Conv2d(a, b, 2, 2)))
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(dims, linear, scaled, response) for _ in range(depth)))
            for depth, dims in zip(depths, channels)
        )
        for i, dims in enumerate(channels):
            self.add_module(f'norm{i}', ChannelNorm(dims))

    def forward(self, x: Tensor) -> list[Tensor]:
        outs = []
        for i, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages)):
            x = stage(downsample(x))
            norm = getattr(self, f'norm{i}')
            outs.append(norm(x.mean((2, 3), keepdim=True))[:, :, 0, 0] if self.pooled else norm(x))
        return outs


def pair(plain: dict | None = None, **arguments) -> tuple[nn.Module, DynamicConvNeXt]:
    stock = randomize(PlainConvNeXt(**TINY['arch'], **plain or {}))
    ours = DynamicConvNeXt(**TINY | arguments)
    ours.init_weights()
    randomize(ours)
    result = ours.load_state_dict(stock.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert all(is_grown(key) for key in result.missing_keys)
    return stock, ours


VARIANTS = [
    ({}, {}),
    (dict(linear=False), dict(linear_pw_conv=False)),
    (dict(scaled=False), dict(layer_scale_init_value=0.0)),
    (dict(response=True, scaled=False), dict(use_grn=True, layer_scale_init_value=0.0)),
    (dict(pooled=True), dict(gap_before_final_norm=True)),
    ({}, dict(with_cp=True)),
]


@pytest.mark.parametrize(('plain', 'arguments'), VARIANTS, ids=str)
@pytest.mark.parametrize('batch', [1, 2])
def test_equal_to_the_reference_at_sparsity_zero(plain, arguments, batch):
    stock, ours = pair(plain, **arguments)
    images = torch.randn(batch, 3, 137, 201)
    with torch.no_grad():
        assert largest_difference(ours.eval()(images), stock(images)) < 1e-4
    outs = ours.train()(images)
    assert largest_difference(outs, stock(images)) < 1e-4
    for result in (outs, stock(images)):
        loss_of(result).backward()
    for name, parameter in stock.named_parameters():
        gradient = dict(ours.named_parameters())[name].grad
        assert (gradient - parameter.grad).abs().max() < 1e-4 * parameter.grad.abs().max().clamp(min=1), name


@pytest.mark.parametrize(('plain', 'arguments'), [VARIANTS[0], VARIANTS[1], VARIANTS[2]], ids=str)
@pytest.mark.parametrize('sparsity', [SPARSITY, (0, 0.2, 0.8), 0.99])
def test_equal_to_a_masked_reference(plain, arguments, sparsity):
    stock, ours = pair(plain, sparsity=sparsity, **arguments)
    ours.eval()
    images = torch.randn(2, 3, 137, 201)
    with ours.record_selections() as records, torch.no_grad():
        outs = ours(images)
    masks = {record.block: record.token_mask()[:, None] for record in records}

    def fast(block: TwoPathConvNeXtBlock, x: Tensor) -> Tensor:
        path = block.fast
        y = path.linear(F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], path.norm.weight, path.norm.bias, 1e-6))
        return (y if path.gamma is None else y * path.gamma).permute(0, 3, 1, 2)

    x = stock.downsample_layers[2](stock.stages[1](stock.downsample_layers[1](stock.stages[0](
        stock.downsample_layers[0](images)
    ))))  # fmt: skip
    for i, block in enumerate(stock.stages[2]):
        y = block.depthwise_conv(x)
        mlp = block.mlp(y) if i not in masks else torch.where(masks[i], block.mlp(y), fast(ours.stages[2].blocks[i], y))
        x = x + mlp
    assert largest_difference(outs[2:3], [stock.norm2(x)]) < 1e-4
    x = stock.stages[3](stock.downsample_layers[3](x))
    assert largest_difference(outs[3:], [stock.norm3(x)]) < 1e-4


@pytest.mark.parametrize('arch', ['atto', 'nano'])
def test_equal_to_mmpretrain(arch):
    try:
        from mmpretrain.models import ConvNeXt
    except Exception as error:
        pytest.skip(f'mmpretrain cannot be imported: {error}')
    stock = ConvNeXt(arch=arch, out_indices=(0, 1, 2, 3), gap_before_final_norm=False)
    stock.init_weights()
    randomize(stock).eval()
    ours = DynamicConvNeXt(arch=arch).eval()
    result = ours.load_state_dict(stock.state_dict(), strict=False)
    assert not result.unexpected_keys
    images = torch.randn(2, 3, 96, 100)
    with torch.no_grad():
        assert largest_difference(ours(images), stock(images)) < 1e-4


@pytest.mark.parametrize(
    ('arch', 'depths', 'channels', 'sites'),
    [
        ('atto', (2, 2, 6, 2), (40, 80, 160, 320), (1, 2, 3)),
        ('nano', (2, 2, 8, 2), (80, 160, 320, 640), (1, 2, 3)),
        ('tiny', (3, 3, 9, 3), (96, 192, 384, 768), (1, 2, 3)),
        ('small', (3, 3, 27, 3), (96, 192, 384, 768), (3, 6, 9)),
        ('base', (3, 3, 27, 3), (128, 256, 512, 1024), (3, 6, 9)),
        ('huge', (3, 3, 27, 3), (352, 704, 1408, 2816), (3, 6, 9)),
    ],
)
def test_architectures(arch, depths, channels, sites):
    with torch.device('meta'):
        model = DynamicConvNeXt(arch=arch)
    assert (model.depths, model.channels) == (depths, channels)
    assert model.sites == tuple(f'stage3.block{site}' for site in sites)
    assert [type(block) is TwoPathConvNeXtBlock for block in model.stages[2].blocks] == [
        block >= sites[0] for block in range(depths[2])
    ]


def test_names_of_the_new_parameters():
    with torch.device('meta'):
        keys = set(DynamicConvNeXt().state_dict()) - set(PlainConvNeXt((3, 3, 9, 3), (96, 192, 384, 768)).state_dict())
    assert {'stages.2.1.fast.norm.weight', 'stages.2.8.fast.linear.bias', 'stages.2.8.fast.gamma'} <= keys
    assert {'site_selectors.2.0.in_conv.1.weight', 'site_selectors.2.2.out_conv.4.bias'} <= keys
    assert not any('stages.2.0.' in key for key in keys)


def test_builds_from_a_config_under_a_foreign_default_scope():
    from mmdet.registry import MODELS as MMDET_MODELS

    with torch.device('meta'):
        model = MMDET_MODELS.build(dict(type='sparsevit_mm.DynamicConvNeXt', arch='small', sparsity=SPARSITY))
    assert isinstance(model, DynamicConvNeXt) and model.sparsity == SPARSITY


def test_outputs():
    images = torch.randn(2, 3, 64, 96)
    outs = DynamicConvNeXt(**TINY)(images)
    assert [out.shape for out in outs] == [(2, 8, 16, 24), (2, 12, 8, 12), (2, 16, 4, 6), (2, 20, 2, 3)]
    assert all(out.is_contiguous() for out in outs)
    assert [out.shape for out in DynamicConvNeXt(**TINY, out_indices=-1)(images)] == [(2, 20, 2, 3)]
    assert [o.shape for o in DynamicConvNeXt(**TINY, out_indices=[-1, 0], gap_before_final_norm=True)(images)] == [
        (2, 8),
        (2, 20),
    ]


def test_initial_weights():
    model = DynamicConvNeXt(**TINY)
    model.init_weights()
    block = model.stages[2].blocks[1]
    for layer in (model.downsample_layers[1][1], block.depthwise_conv, block.pointwise_conv1, block.fast.linear):
        assert 0.01 < layer.weight.std() < 0.03 and not layer.bias.any()
    for gamma in (block.gamma, block.fast.gamma):
        torch.testing.assert_close(gamma.detach(), torch.full((16,), 1e-6))


def test_init_cfg_of_mmpretrain_works():
    init_cfg = [
        dict(type='TruncNormal', layer=['Conv2d', 'Linear'], std=0.5, bias=0.0),
        dict(type='Constant', layer=['LayerNorm'], val=1.0, bias=0.0),
    ]
    model = DynamicConvNeXt(**TINY, init_cfg=init_cfg)
    model.init_weights()
    assert model.stages[0].blocks[0].pointwise_conv1.weight.std() > 0.3


@pytest.mark.parametrize('prefix', ['backbone.', None])
def test_a_classifier_of_mmpretrain_loads_as_it_is(tmp_path, prefix):
    stock, _ = pair()
    whole = {f'backbone.{key}': value for key, value in stock.state_dict().items()}
    # A classifier has the norm of its last stage only, and a head.
    state = {key: value for key, value in whole.items() if not key.startswith(('backbone.norm0', 'backbone.norm1'))}
    state |= {'head.fc.weight': torch.zeros(5, 20), 'head.fc.bias': torch.zeros(5)}
    torch.save(dict(state_dict=state, meta=dict(classes='abcde')), tmp_path / 'classifier.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'classifier.pth'), prefix=prefix)
    ours = DynamicConvNeXt(**TINY, init_cfg=init_cfg)
    ours.init_weights()
    for key, value in ours.state_dict().items():
        if is_grown(key):
            weight = key.endswith('weight') and value.ndim == 2
            assert 0 < value.abs().max() < 0.1 if weight else torch.equal(value, torch.full_like(value, value[0])), key
        elif not key.startswith(('norm0', 'norm1')):
            assert torch.equal(value, whole[f'backbone.{key}']), key
    assert torch.equal(ours.norm0.weight, torch.ones(8))
    torch.save(randomize(ours).state_dict(), tmp_path / 'ours.pth')
    again = DynamicConvNeXt(**TINY, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'ours.pth')))
    again.init_weights()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), again.parameters()))


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    torch.save(dict(state_dict=pair()[0].state_dict()), tmp_path / 'stock.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'stock.pth'))
    for arguments in (dict(arch=dict(depths=(1, 2, 7, 1), channels=(8, 12, 16, 20))), dict(linear_pw_conv=False)):
        with pytest.raises(ValueError, match=r'is no DynamicConvNeXt of this size.*Check arch, linear_pw_conv'):
            DynamicConvNeXt(**TINY | arguments, init_cfg=init_cfg).init_weights()


def test_responses_of_the_slow_path_do_not_see_the_fast_one():
    _, ours = pair(dict(response=True, scaled=False), use_grn=True, layer_scale_init_value=0.0)
    block = ours.stages[2].blocks[1].train()
    tokens = torch.randn(1, 30, 16)
    decisions = (torch.arange(30)[None] < 20).float()
    with torch.no_grad():
        masked, alone = block.slow(tokens, decisions)[:, :20], block.slow(tokens[:, :20])
        torch.testing.assert_close(masked, alone)
        assert not torch.allclose(block.slow(tokens)[:, :20], alone, atol=1e-4)
        assert block.slow(tokens, torch.zeros(1, 30)).isfinite().all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(arch='giant'), "arch must be one of atto, .*, huge, or a dict .* got 'giant'"),
        (dict(arch=dict(depths=(1, 1))), 'arch must have depths and channels'),
        (dict(arch=dict(depths=(1, 1), channels=(8,))), 'arch must have one depth and one number of channels'),
        (dict(arch=dict(depths=(1, 0), channels=(8, 16))), 'arch must have .* all from 1 on'),
        (dict(out_indices=(0, 4)), 'out_indices must be distinct stages from 0 to 3'),
        (dict(out_indices=(3, -1)), 'out_indices must be distinct stages from 0 to 3'),
        (dict(frozen_stages=5), 'frozen_stages must be from 0 to 4, got 5'),
        (dict(drop_path_rate=2), 'drop_path_rate is a probability from 0 to 1, got 2'),
        (dict(norm_cfg=dict(type='BN')), "norm_cfg of a ConvNeXt must be of type 'LN2d'"),
        (dict(norm_cfg=dict(type='LN2d', momentum=0.1)), 'arguments that a layer norm does not take.*momentum'),
    ],
    ids=lambda value: str(value)[:40],
)
def test_constructor_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        DynamicConvNeXt(**TINY | arguments)


@pytest.mark.parametrize('decay_type', ['layer_wise', 'stage_wise'])
@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
def test_rates_by_layer_reach_every_parameter(package, decay_type):
    """The constructors of stock ConvNeXt configs read the layer of a parameter from its name."""
    engine = pytest.importorskip(f'{package}.engine.optimizers')
    constructor = engine.LearningRateDecayOptimizerConstructor(
        dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05)),
        dict(decay_rate=0.5, decay_type=decay_type, num_layers=6),
    )
    model = nn.ModuleDict(dict(backbone=DynamicConvNeXt(arch='tiny')))
    model.backbone = model['backbone']
    optimizer = constructor(model).optimizer
    rates = {id(p): group['lr'] for group in optimizer.param_groups for p in group['params']}
    assert set(rates) == {id(p) for p in model.parameters()}
    assert {rates[id(p)] for p in model.backbone.site_selectors.parameters()} == {1.0}
    stem = next(model.backbone.downsample_layers[0].parameters())
    assert rates[id(stem)] < 0.1
