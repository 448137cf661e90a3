"""Sparse backbones, each assembled from the layers."""

from .base import SiteRecord, SparseBackbone
from .sparse_swin import SparseSwin

__all__ = ['SiteRecord', 'SparseBackbone', 'SparseSwin']
