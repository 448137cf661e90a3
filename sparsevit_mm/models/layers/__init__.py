"""Blocks that backbones are assembled from."""

from .patch_merging import FoldPatchMerging
from .swin_stage import SwinStage
from .window_attention import WindowAttention
from .window_block import WindowBlock

__all__ = ['FoldPatchMerging', 'SwinStage', 'WindowAttention', 'WindowBlock']
