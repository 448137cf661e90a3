"""DynamicSwin against the stock Swin; what it shares with DynamicConvNeXt is in test_two_path.py."""

import pytest
import torch
from mmdet.models.backbones.swin import SwinTransformer
from torch import Tensor, nn

from sparsevit_mm.models import DynamicSwin, SparseSwin
from sparsevit_mm.models.checkpoints import load_into
from sparsevit_mm.models.layers import FastPath, PathChoice, TwoPathWindowBlock

from .conftest import randomize
from .test_two_path import largest_difference, loss_of

TINY = dict(embed_dims=8, depths=(1, 1, 6, 1), num_heads=(1, 1, 2, 2), drop_path_rate=0.0)
SPARSITY = (0.3, 0.5, 0.7)


def pair(**arguments) -> tuple[nn.Module, DynamicSwin]:
    stock = SwinTransformer(**TINY | arguments)
    stock.init_weights()
    randomize(stock)
    ours = DynamicSwin(**TINY | arguments)
    ours.init_weights()
    randomize(ours)
    result = ours.load_state_dict(stock.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert all('.selectors.' in key or '.fast.' in key for key in result.missing_keys)
    return stock, ours


def test_published_positions():
    with torch.device('meta'):
        assert DynamicSwin().sites == ('stage3.block1', 'stage3.block2', 'stage3.block3')
        small = DynamicSwin(depths=(2, 2, 18, 2))
    assert small.sites == ('stage3.block2', 'stage3.block4', 'stage3.block6')
    assert [type(block) is TwoPathWindowBlock for block in small.stages[2].blocks] == [False] * 2 + [True] * 16
    assert not [m for i in (0, 1, 3) for m in small.stages[i].modules() if isinstance(m, FastPath)]


def test_names_of_the_new_parameters():
    keys = set(DynamicSwin(**TINY).state_dict()) - set(SwinTransformer(**TINY).state_dict())
    assert 'stages.2.blocks.1.fast.norm.weight' in keys and 'stages.2.blocks.5.fast.linear.bias' in keys
    assert 'stages.2.selectors.0.in_conv.1.weight' in keys and 'stages.2.selectors.2.out_conv.4.bias' in keys
    assert not any('gamma' in key or 'blocks.0.fast' in key for key in keys)


def test_builds_from_a_config_under_a_foreign_default_scope():
    from mmdet.registry import MODELS as MMDET_MODELS

    with torch.device('meta'):
        model = MMDET_MODELS.build(dict(type='sparsevit_mm.DynamicSwin', sparsity=SPARSITY))
    assert isinstance(model, DynamicSwin) and not isinstance(model, SparseSwin) and model.sparsity == SPARSITY


def test_bypass_is_no_argument():
    with pytest.raises(TypeError, match='bypass'):
        DynamicSwin(**TINY, bypass='identity')


@pytest.mark.parametrize('size', [(224, 224), (136, 200), (20, 25)])
@pytest.mark.parametrize('batch', [1, 2])
@pytest.mark.parametrize('training', [False, True])
def test_equal_to_stock_at_sparsity_zero(size, batch, training):
    stock, ours = pair()
    stock.train(training), ours.train(training)
    images = torch.randn(batch, 3, *size)
    with torch.no_grad():
        assert largest_difference(ours(images), stock(images)) < 1e-4
    assert largest_difference(ours(images), stock(images)) < 1e-4


@pytest.mark.parametrize(
    'arguments',
    [
        dict(window_size=4, mlp_ratio=2),
        dict(use_abs_pos_embed=True, pretrain_img_size=(100, 136)),
        dict(with_cp=True),
        dict(out_indices=(2,), qkv_bias=False, patch_norm=False),
    ],
    ids=str,
)
def test_gradients_equal_at_sparsity_zero(arguments):
    stock, ours = pair(**arguments)
    images = torch.randn(2, 3, 100, 136)
    for model in (stock, ours):
        model.train()
        loss_of(model(images)).backward()
    for name, parameter in stock.named_parameters():
        if parameter.grad is None:
            continue
        gradient = dict(ours.named_parameters())[name].grad
        assert (gradient - parameter.grad).abs().max() < 1e-4 * parameter.grad.abs().max().clamp(min=1), name


def reference(stock: nn.Module, ours: DynamicSwin, images: Tensor) -> list[Tensor]:
    """The stock blocks on all tokens; where a token is on the fast path, LN and linear layer instead of the FFN."""
    with ours.record_selections() as records, torch.no_grad():
        ours(images)
    masks = {record.block: record.token_mask().flatten(1)[..., None] for record in records}
    x, hw_shape = stock.patch_embed(images)
    outs = []
    for i, stage in enumerate(stock.stages):
        for j, block in enumerate(stage.blocks):
            if i != 2 or j not in masks:
                x = block(x, hw_shape)
                continue
            fast = ours.stages[2].blocks[j].fast
            x = x + block.attn(block.norm1(x), hw_shape)
            slow = block.ffn.layers(block.norm2(x))
            x = x + torch.where(masks[j], slow, fast.linear(fast.norm(x)))
        out = getattr(stock, f'norm{i}')(x).view(len(images), *hw_shape, -1)
        outs.append(out.permute(0, 3, 1, 2))
        if stage.downsample is not None:
            x, hw_shape = stage.downsample(x, hw_shape)
    return outs


@pytest.mark.parametrize('size', [(224, 224), (136, 200)])
@pytest.mark.parametrize('sparsity', [SPARSITY, (0, 0.2, 0.8), 0.99])
def test_equal_to_a_reference_of_stock_layers(size, sparsity):
    stock, ours = pair()
    ours.sparsity = sparsity
    stock.eval(), ours.eval()
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        assert largest_difference(ours(images), reference(stock, ours, images)) < 1e-4
    outs = reference(stock, ours, images)
    assert largest_difference(ours(images), outs) < 1e-4
    for result in (outs, ours(images)):
        loss_of(result).backward()
    for name, parameter in stock.named_parameters():
        gradient = dict(ours.named_parameters())[name].grad
        assert (gradient - parameter.grad).abs().max() < 1e-4 * parameter.grad.abs().max().clamp(min=1), name


def official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of mmdet under the names of the official repository, as far as order of channels does not matter."""
    names = (('stages.', 'layers.'), ('attn.w_msa.', 'attn.'), ('ffn.layers.0.0.', 'mlp.fc1.'))
    names += (('ffn.layers.1.', 'mlp.fc2.'), ('projection', 'proj'))
    renamed = {}
    for key, value in state.items():
        if not key.startswith('norm'):
            for ours, theirs in names:
                key = key.replace(ours, theirs)
            renamed[key] = value
    return renamed


@pytest.mark.parametrize('form', ['mmdet', 'detector', 'official'])
def test_stock_checkpoints_leave_new_parts_at_their_initial_values(tmp_path, form):
    stock, _ = pair()
    state = stock.state_dict()
    if form == 'detector':
        state = {f'backbone.{key}': value for key, value in state.items()} | {'neck.weight': torch.zeros(1)}
    if form == 'official':
        state = official(state)
    torch.save({'model' if form == 'official' else 'state_dict': state}, tmp_path / 'stock.pth')
    ours = DynamicSwin(**TINY, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'stock.pth')))
    ours.init_weights()
    given = stock.state_dict()
    for key, value in ours.state_dict().items():
        if '.fast.' in key or '.selectors.' in key:
            weight = key.endswith('weight') and value.ndim == 2
            assert 0 < value.abs().max() < 0.1 if weight else torch.equal(value, torch.full_like(value, value[0])), key
        elif not (form == 'official' and ('downsample' in key or key.startswith('norm'))):
            assert torch.equal(value, given[key]), key


def test_a_stock_model_loads_into_one_of_ours(tmp_path):
    stock, _ = pair()
    other, mine = nn.Module(), nn.Module()
    other.backbone, mine.backbone = stock, DynamicSwin(**TINY)
    torch.save(dict(state_dict=other.state_dict()), tmp_path / 'model.pth')
    load_into(mine, tmp_path / 'model.pth')
    assert all(torch.equal(mine.backbone.state_dict()[key], value) for key, value in stock.state_dict().items())
    with pytest.raises(ValueError, match=r'lacks \d+ parameters of selectors or fast paths .*backbone.stages.2'):
        load_into(mine, tmp_path / 'model.pth', whole=True)


def test_our_checkpoints_load_whole(tmp_path):
    _, first = pair()
    torch.save(dict(state_dict=first.state_dict()), tmp_path / 'ours.pth')
    ours = DynamicSwin(**TINY, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'ours.pth')))
    ours.init_weights()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), first.parameters()))


def test_a_checkpoint_of_another_size_is_refused(tmp_path):
    torch.save(dict(state_dict=pair()[0].state_dict()), tmp_path / 'stock.pth')
    ours = DynamicSwin(
        **TINY | dict(embed_dims=16), init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'stock.pth'))
    )
    with pytest.raises(ValueError, match='is no DynamicSwin of this size'):
        ours.init_weights()


def test_weights_of_new_parts_without_a_checkpoint():
    ours = DynamicSwin(**TINY)
    ours.init_weights()
    fast = ours.stages[2].blocks[1].fast
    assert 0.01 < fast.linear.weight.std() < 0.03 and not fast.linear.bias.any() and fast.gamma is None


def test_gradients_equal_a_mixture_by_hand():
    """One block with decisions that are a leaf: x + D slow(x) + (1 - D) fast(x)."""
    ours = DynamicSwin(**TINY, sparsity=0.5)
    ours.init_weights()
    randomize(ours).train()
    block = ours.stages[2].blocks[1]
    x = torch.randn(2, 49, 32)
    decisions = (torch.rand(2, 49) > 0.5).float().requires_grad_()
    weight = torch.randn(2, 49, 32)
    (block._mix(x, PathChoice(None, decisions=decisions)) * weight).sum().backward()
    slow, fast = block.ffn.layers(block.norm2(x)), block.fast.linear(block.fast.norm(x))
    torch.testing.assert_close(decisions.grad, (weight * (slow - fast)).sum(-1))
