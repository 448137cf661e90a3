"""Backbones, their layers, and the ways to get them into a model."""

from ..compat import allow_mmengine_checkpoints
from .backbones import DynamicConvNeXt, DynamicSwin, PrunedPiT, PrunedViT, SiteRecord, SparseBackbone, SparseSwin
from .sparsify import find_sparse_backbone, sparsify

# A runner resumes from its own checkpoints only with the allow-list in place.
allow_mmengine_checkpoints()

__all__ = [
    'DynamicConvNeXt',
    'DynamicSwin',
    'PrunedPiT',
    'PrunedViT',
    'SiteRecord',
    'SparseBackbone',
    'SparseSwin',
    'find_sparse_backbone',
    'sparsify',
]
