"""Blocks that backbones are assembled from."""

from .idle import keep_in_graph
from .patch_merging import FoldPatchMerging
from .swin_stage import StageObserver, SwinStage
from .vit_block import TokenAttention, ViTBlock
from .window_attention import WindowAttention
from .window_block import WindowBlock

__all__ = [
    'FoldPatchMerging',
    'StageObserver',
    'SwinStage',
    'TokenAttention',
    'ViTBlock',
    'WindowAttention',
    'WindowBlock',
    'keep_in_graph',
]
