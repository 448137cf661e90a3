"""At sparsity 0 SparseSwin is the stock backbone; pruned, it is the stock backbone where windows are kept."""

import mmdet.models.backbones.swin as mmdet_swin
import mmseg.models.backbones.swin as mmseg_swin
import pytest
import torch
from torch import nn

from sparsevit_mm.models import SparseSwin

from .conftest import randomize

TINY = dict(embed_dims=16, depths=(2, 4), num_heads=(2, 4), strides=(4, 2), out_indices=(0, 1), drop_path_rate=0.0)


def pair(stock_class: type = mmdet_swin.SwinTransformer, **arguments) -> tuple[nn.Module, SparseSwin]:
    stock = stock_class(**arguments)
    stock.init_weights()
    randomize(stock)
    sparse = SparseSwin(**arguments)
    assert list(sparse.state_dict()) and set(sparse.state_dict()) == set(stock.state_dict())
    sparse.load_state_dict(stock.state_dict())
    return stock, sparse


def largest_difference(ours, theirs) -> float:
    assert len(ours) == len(theirs) and all(a.shape == b.shape for a, b in zip(ours, theirs))
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs))


@pytest.mark.parametrize('stock_class', [mmdet_swin.SwinTransformer, mmseg_swin.SwinTransformer])
@pytest.mark.parametrize('size', [(112, 112), (333, 501), (160, 96), (20, 25), (4, 4)])
@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('training', [False, True])
def test_equal_at_sparsity_zero(stock_class, size, batch, training):
    stock, sparse = pair(stock_class, **TINY)
    stock.train(training), sparse.train(training)
    images = torch.randn(batch, 3, *size)
    with torch.no_grad():
        assert largest_difference(sparse(images), stock(images)) < 1e-4
    assert largest_difference(sparse(images), stock(images)) < 1e-4


@pytest.mark.parametrize(
    'arguments',
    [
        dict(window_size=12, pretrain_img_size=384),
        dict(window_size=4),
        dict(depths=(1, 3), out_indices=(1,)),
        dict(depths=(3, 5)),
        dict(depths=(2, 2, 2), num_heads=(1, 2, 4), strides=(4, 2, 2), out_indices=(2, 0)),
        dict(qkv_bias=False, qk_scale=0.3),
        dict(patch_norm=False),
        dict(mlp_ratio=2),
        dict(patch_size=2, strides=(2, 2)),
        dict(strides=(4, 4)),
        dict(use_abs_pos_embed=True, pretrain_img_size=(152, 100)),
        dict(act_cfg=dict(type='ReLU'), norm_cfg=dict(type='LN', eps=1e-3)),
        dict(with_cp=True),
    ],
    ids=str,
)
def test_equal_for_other_arguments(arguments):
    stock, sparse = pair(**TINY | arguments)
    images = torch.randn(2, 3, 152, 100)
    stock.train(), sparse.train()
    assert largest_difference(sparse(images), stock(images)) < 1e-4


@pytest.mark.parametrize('size', [(112, 112), (100, 84)])
@pytest.mark.parametrize('with_cp', [False, True])
def test_gradients_equal_at_sparsity_zero(size, with_cp):
    stock, sparse = pair(**TINY, with_cp=with_cp)
    stock.train(), sparse.train()
    images = torch.randn(2, 3, *size)
    weights = [torch.randn_like(out) for out in stock(images)]
    for model in (stock, sparse):
        sum((out * weight).sum() for out, weight in zip(model(images), weights)).backward()
    theirs = dict(stock.named_parameters())
    for name, parameter in sparse.named_parameters():
        scale = theirs[name].grad.abs().max().clamp(min=1)
        assert (parameter.grad - theirs[name].grad).abs().max() / scale < 1e-4, name


@pytest.mark.slow
@pytest.mark.parametrize('size', [(672, 672), (640, 640)])
def test_swin_t_equals_stock_at_full_size(size):
    stock, sparse = pair()
    stock.eval(), sparse.eval()
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        assert largest_difference(sparse(images), stock(images)) < 1e-4


def masked_reference(stock: nn.Module, sparse: SparseSwin, images: torch.Tensor) -> list[torch.Tensor]:
    """The stock blocks on the whole map, their result taken only where SparseSwin says it computes."""
    with sparse.record_selections() as records, torch.no_grad():
        sparse(images)
    records = iter(records)
    x, hw_shape = stock.patch_embed(images)
    outs = []
    for i, stage in enumerate(stock.stages):
        for block in stage.blocks:
            mask = next(records).token_mask().flatten(1)[:, :, None]
            x = torch.where(mask, block(x, hw_shape), x)
        out = getattr(stock, f'norm{i}')(x).view(-1, *hw_shape, stock.num_features[i])
        outs.append(out.permute(0, 3, 1, 2))
        if stage.downsample is not None:
            x, hw_shape = stage.downsample(x, hw_shape)
    assert next(records, None) is None
    return outs


@pytest.mark.parametrize('size', [(112, 112), (333, 301), (20, 25)])
@pytest.mark.parametrize('sparsity', [0.3, (0.6, 0.0, 0.8), (0.0, 0.2, 0.5)])
@pytest.mark.parametrize('selector', ['MagnitudeSelector', 'RandomSelector'])
def test_pruned_equals_the_dense_masked_reference(size, sparsity, selector):
    stock, _ = pair(**TINY)
    sparse = SparseSwin(**TINY, sparsity=sparsity, selector=dict(type=f'sparsevit_mm.{selector}'))
    sparse.load_state_dict(stock.state_dict())
    stock.eval(), sparse.eval()
    images = torch.randn(2, 3, *size)
    reference = masked_reference(stock, sparse, images)
    assert largest_difference(sparse(images), reference) < 1e-4
    with torch.no_grad():  # in chunks
        assert largest_difference(sparse(images), reference) < 1e-4
    weights = [torch.randn_like(out) for out in reference]
    for outs in (reference, sparse(images)):
        sum((out * weight).sum() for out, weight in zip(outs, weights)).backward()
    theirs = dict(stock.named_parameters())
    for name, parameter in sparse.named_parameters():
        scale = theirs[name].grad.abs().max().clamp(min=1)
        assert (parameter.grad - theirs[name].grad).abs().max() / scale < 1e-4, name


def test_chunks_change_nothing():
    _, sparse = pair(**TINY)
    sparse.eval()
    images = torch.randn(2, 3, 152, 100)
    for sparsity in (0, 0.4):
        sparse.sparsity = sparsity
        with torch.no_grad():
            sparse.chunk_rows = 1 << 40
            whole = sparse(images)
            for sparse.chunk_rows in (1, 60, 500):
                assert largest_difference(sparse(images), whole) < 1e-5
