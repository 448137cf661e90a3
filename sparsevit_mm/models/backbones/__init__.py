"""Sparse backbones, each assembled from the layers."""

from .base import SiteRecord, SparseBackbone
from .dynamic_convnext import DynamicConvNeXt
from .dynamic_swin import DynamicSwin
from .pruned_pit import PrunedPiT
from .pruned_vit import PrunedViT
from .sparse_swin import SparseSwin

__all__ = ['DynamicConvNeXt', 'DynamicSwin', 'PrunedPiT', 'PrunedViT', 'SiteRecord', 'SparseBackbone', 'SparseSwin']
