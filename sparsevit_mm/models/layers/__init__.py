"""Blocks that backbones are assembled from."""

from .idle import keep_in_graph
from .patch_merging import FoldPatchMerging
from .swin_stage import StageObserver, SwinStage
from .window_attention import WindowAttention
from .window_block import WindowBlock

__all__ = ['FoldPatchMerging', 'StageObserver', 'SwinStage', 'WindowAttention', 'WindowBlock', 'keep_in_graph']
