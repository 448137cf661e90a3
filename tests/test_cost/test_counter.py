import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsevit_mm.cost import count_macs, measure_macs
from sparsevit_mm.cost.counter import count_executed_macs
from sparsevit_mm.models import SparseSwin

TINY = dict(embed_dims=16, num_heads=(1, 2, 4, 8), depths=(2, 2, 3, 2))


def _counted(function, *args: Tensor) -> int:
    with torch.no_grad():
        return count_executed_macs(lambda: function(*args))


def test_products_and_convolutions():
    rows = torch.randn(2, 5, 8)
    assert _counted(nn.Linear(8, 3), rows) == 2 * 5 * 8 * 3
    assert _counted(nn.Conv2d(4, 6, 3, padding=1, groups=2), torch.randn(1, 4, 5, 7)) == 5 * 7 * 6 * 2 * 9
    assert _counted(torch.matmul, rows, rows.transpose(1, 2)) == 2 * 5 * 5 * 8
    assert _counted(torch.mv, rows[0], torch.randn(8)) == 5 * 8
    assert _counted(torch.addmv, torch.randn(5), rows[0], torch.randn(8)) == 5 * 8
    assert _counted(torch.dot, rows[0, 0], rows[0, 1]) == 8
    assert _counted(torch.addbmm, torch.randn(5, 5), rows, rows.transpose(1, 2)) == 2 * 5 * 5 * 8


@pytest.mark.parametrize('mask', [None, torch.zeros(1, 1, 6, 9)])
def test_cpu_attention(mask):
    query, key, value = torch.randn(2, 3, 6, 8), torch.randn(2, 3, 9, 8), torch.randn(2, 3, 9, 8)
    assert _counted(lambda: F.scaled_dot_product_attention(query, key, value, mask)) == 2 * 3 * 6 * 9 * (8 + 8)


@pytest.mark.parametrize('fused', [True, False])
def test_multihead_attention_fused_or_not(fused):
    layer = nn.MultiheadAttention(12, 3, batch_first=fused).eval()
    tokens = torch.randn(2, 7, 12)
    batch, length = (2, 7) if fused else (7, 2)
    projections = 4 * 2 * 7 * 12 * 12
    assert _counted(lambda: layer(tokens, tokens, tokens)) == projections + batch * length * length * 2 * 12


def test_norms_and_activations_do_not_count():
    assert _counted(nn.Sequential(nn.LayerNorm(8), nn.GELU(), nn.Softmax(-1)), torch.randn(3, 8)) == 0


@pytest.mark.parametrize('size', [(224, 224), (100, 131), (20, 24)])
@pytest.mark.parametrize('sparsity', [0, 0.6, (0.7, 0.1, 0.2, 0.5, 0.3)])
def test_agrees_with_the_closed_form(size, sparsity):
    backbone = SparseSwin(**TINY, sparsity=sparsity)
    assert measure_macs(backbone, size) == pytest.approx(count_macs(backbone, size), rel=0.01)


@pytest.mark.parametrize('changes', [dict(window_size=12), dict(patch_norm=False, out_indices=(3,)), dict(mlp_ratio=2)])
def test_agrees_with_the_closed_form_for_other_arguments(changes):
    backbone = SparseSwin(**TINY, **changes, sparsity=0.4)
    assert measure_macs(backbone, (150, 90)) == pytest.approx(count_macs(backbone, (150, 90)), rel=0.01)


@pytest.mark.parametrize('size', [(224, 224), (100, 131)])
def test_dense_equals_the_stock_backbone(size):
    stock = pytest.importorskip('mmdet.models.backbones.swin').SwinTransformer(**TINY)
    assert measure_macs(SparseSwin(**TINY), size) == measure_macs(stock, size)


def test_leaves_the_backbone_as_it_was():
    backbone = SparseSwin(**TINY, sparsity=0.5, frozen_stages=1).train()
    flags = [child.training for child in backbone.modules()]
    measure_macs(backbone, (64, 64))
    assert [child.training for child in backbone.modules()] == flags
    assert backbone.sparsity == (0.5,) * 5


def test_shape_is_checked():
    with pytest.raises(ValueError, match='shape must be two positive integers'):
        measure_macs(SparseSwin(**TINY), (0, 64))
