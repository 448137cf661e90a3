import pytest
import torch

from sparsevit_mm.cost import count_macs, measure_macs
from sparsevit_mm.models import DynamicConvNeXt, DynamicSwin, SparseBackbone, SparseSwin

SMALL = dict(depths=(2, 2, 18, 2))
BASE = dict(**SMALL, embed_dims=128, num_heads=(4, 8, 16, 32))
# Table of the release: GFLOPs at 224x224 with a classifier, whose head is below 0.002. Where rho is 0.9 the sites keep
# .9, .7 and .5, where it is 0.7 they keep .7, .5 and .3.
PUBLISHED = [
    (DynamicSwin, dict(), 1.0, 4.5),
    (DynamicSwin, SMALL, 1.0, 8.7),
    (DynamicSwin, BASE, 1.0, 15.4),
    (DynamicSwin, dict(), 0.7, 4.0),
    (DynamicSwin, SMALL, 0.7, 6.9),
    (DynamicSwin, BASE, 0.7, 12.1),
    (DynamicConvNeXt, dict(arch='tiny'), 0.9, 3.9),
    (DynamicConvNeXt, dict(arch='tiny'), 0.7, 3.6),
    (DynamicConvNeXt, dict(arch='small'), 0.9, 6.8),
    (DynamicConvNeXt, dict(arch='small'), 0.7, 5.8),
    (DynamicConvNeXt, dict(arch='base'), 0.9, 11.9),
    (DynamicConvNeXt, dict(arch='base'), 0.7, 10.2),
]
TINY_SWIN = dict(embed_dims=8, depths=(1, 1, 6, 1), num_heads=(1, 1, 2, 2))
TINY_CONVNEXT = dict(arch=dict(depths=(1, 1, 6, 1), channels=(8, 16, 32, 64)))


def on_meta(kind: type, **arguments) -> SparseBackbone:
    with torch.device('meta'):
        return kind(**arguments)


@pytest.mark.parametrize(('kind', 'arguments', 'rho', 'published'), PUBLISHED, ids=str)
def test_published_gmacs(kind, arguments, rho, published):
    sparsity = 0 if rho == 1 else (1 - rho, 1.2 - rho, 1.4 - rho)
    macs = count_macs(on_meta(kind, sparsity=sparsity, **arguments), (224, 224))
    assert macs / 1e9 == pytest.approx(published, abs=0.11)


@pytest.mark.parametrize(
    ('kind', 'arguments'),
    [
        (DynamicSwin, TINY_SWIN),
        (DynamicSwin, TINY_SWIN | dict(site_blocks={0: (0,), 2: (2, 5)})),
        (DynamicConvNeXt, TINY_CONVNEXT),
        (DynamicConvNeXt, TINY_CONVNEXT | dict(linear_pw_conv=False, site_blocks={1: (0,), 2: (2, 5)})),
    ],
    ids=str,
)
@pytest.mark.parametrize('selector', ['PredictorSelector', 'MagnitudeSelector'])
@pytest.mark.parametrize('shape', [(224, 224), (150, 213), (64, 64)])
def test_counted_on_what_ran(kind, arguments, selector, shape):
    backbone = kind(**arguments, selector=dict(type=f'sparsevit_mm.{selector}'))
    for sparsity in (0, (0, 0.3, 0.6), 0.7):
        backbone.sparsity = sparsity
        assert count_macs(backbone, shape) == pytest.approx(measure_macs(backbone, shape), rel=0.01)


def test_dense_swin_costs_what_the_stock_one_does():
    for convention in ('executed', 'padded'):
        costs = {count_macs(on_meta(kind), (250, 333), convention=convention) for kind in (SparseSwin, DynamicSwin)}
        assert len(costs) == 1


def test_small_case_by_hand():
    arch = dict(depths=(1,), channels=(8,))
    backbone = on_meta(DynamicConvNeXt, arch=arch, out_indices=(0,), site_blocks=(0,), site_stage=0, sparsity=0.25)
    # 16 x 16 pixels: 4 x 4 tokens, 12 of which are kept; the selector is 8 -> 8, 8 -> 4 -> 2 -> 2.
    stem, depthwise = 16 * 8 * 48, 16 * 8 * 49
    selector = 16 * (8 * 8 + 8 * 4 + 4 * 2 + 2 * 2)
    paths = 12 * 2 * 8 * 32 + 4 * 8 * 8
    assert count_macs(backbone, (16, 16)) == stem + depthwise + selector + paths


@pytest.mark.parametrize(('kind', 'arguments'), [(DynamicSwin, TINY_SWIN), (DynamicConvNeXt, TINY_CONVNEXT)])
def test_more_sparsity_never_costs_more_than_the_selectors(kind, arguments):
    costs = [count_macs(on_meta(kind, sparsity=s / 20, **arguments), (320, 256)) for s in range(1, 20)]
    assert costs == sorted(costs, reverse=True)
