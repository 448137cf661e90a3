"""Small backbones of every family, and latency tables that are made up."""

from collections.abc import Sequence

import torch

from sparsevit_mm.cost import Environment, LatencyTable
from sparsevit_mm.cost.backbone_identity import BackboneIdentity
from sparsevit_mm.cost.table_entries import CheckedSetting, SiteLatency
from sparsevit_mm.models import DynamicConvNeXt, DynamicSwin, PrunedPiT, PrunedViT, SparseBackbone, SparseSwin

ENVIRONMENT = Environment('cpu', 'a processor', 'float32', 1, (64, 96), 2, '2.0', '3.11', 'Linux')
LEARNED = dict(type='sparsevit_mm.PredictorSelector')
FAMILIES = {
    'SparseSwin': lambda: SparseSwin(
        embed_dims=16, num_heads=(1, 2), depths=(2, 4), strides=(4, 2), out_indices=(0, 1), window_size=4
    ),
    'DynamicSwin': lambda: DynamicSwin(
        embed_dims=8, depths=(1, 4), num_heads=(1, 1), strides=(4, 2), out_indices=(1,), window_size=4, site_stage=1,
        site_blocks=(1, 2),
    ),
    'DynamicConvNeXt': lambda: DynamicConvNeXt(
        arch=dict(depths=(1, 4), channels=(8, 16)), out_indices=(1,), site_stage=1, site_blocks=(1, 2)
    ),
    'PrunedViT': lambda: PrunedViT(
        img_size=64, patch_size=8, embed_dims=32, num_layers=4, num_heads=4, site_blocks=(1, 2), bypass='package'
    ),
    'PrunedPiT': lambda: PrunedPiT(
        arch=dict(head_dims=(8, 8), num_heads=(2, 4), depths=(2, 3), patch_size=8, stride=8), img_size=64,
        out_indices=(0, 1),
    ),
}  # fmt: skip


def build(family: str) -> SparseBackbone:
    torch.manual_seed(0)
    return FAMILIES[family]()


def made_up(
    groups: Sequence[int] = (1, 2),
    choices: Sequence[float] = (0.0, 0.25, 0.5),
    times: Sequence[Sequence[float]] = ((4.0, 3.0, 2.0), (8.0, 6.0, 4.0), (2.0, 1.5, 1.0)),
    rest: float = 1.0,
    check: Sequence[tuple[float, float]] = (),
) -> LatencyTable:
    """A table with round numbers; ``check`` holds measured and predicted seconds."""
    names = tuple(f'stage{i}.pair{j}' for i, size in enumerate(groups, 1) for j in range(1, size + 1))
    return LatencyTable(
        backbone=BackboneIdentity('SparseSwin', names, tuple(groups)),
        environment=ENVIRONMENT,
        choices=tuple(choices),
        sites=tuple(SiteLatency(tuple(map(float, values))) for values in times),
        rest=rest,
        check=tuple(CheckedSetting((0.0,) * len(names), *pair) for pair in check),
    )


def table_of(backbone: SparseBackbone, environment: Environment = ENVIRONMENT) -> LatencyTable:
    """A made-up table of a backbone: every site falls from 10 ms to 2 ms, the rest takes 5 ms."""
    return LatencyTable(
        backbone=BackboneIdentity.of(backbone),
        environment=environment,
        choices=(0.0, 0.4, 0.8),
        sites=(SiteLatency((0.010, 0.006, 0.002)),) * len(backbone.sites),
        rest=0.005,
    )
