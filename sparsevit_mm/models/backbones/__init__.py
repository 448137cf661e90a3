"""Sparse backbones, each assembled from the layers."""

from .base import SiteRecord, SparseBackbone
from .pruned_vit import PrunedViT
from .sparse_swin import SparseSwin

__all__ = ['PrunedViT', 'SiteRecord', 'SparseBackbone', 'SparseSwin']
