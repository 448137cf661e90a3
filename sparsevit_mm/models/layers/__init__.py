"""Blocks that backbones are assembled from."""

from .chunked import Chunked
from .convnext_block import ConvNeXtBlock, GlobalResponseNorm, LayerNorm2d, build_norm2d
from .fast_path import FastPath
from .idle import keep_in_graph
from .norm_to_map import norm_to_map
from .patch_merging import FoldPatchMerging
from .swin_stage import StageObserver, SwinStage, WindowStage
from .token_sites import TokenSites, TokenState
from .two_path import PathChoice, PathSelectors
from .two_path_convnext import TwoPathConvNeXtBlock, TwoPathConvNeXtStage
from .two_path_swin import TwoPathSwinStage, TwoPathWindowBlock
from .vit_block import TokenAttention, ViTBlock
from .window_attention import WindowAttention
from .window_block import WindowBlock

__all__ = [
    'Chunked',
    'ConvNeXtBlock',
    'FastPath',
    'FoldPatchMerging',
    'GlobalResponseNorm',
    'LayerNorm2d',
    'PathChoice',
    'PathSelectors',
    'StageObserver',
    'SwinStage',
    'TokenAttention',
    'TokenSites',
    'TokenState',
    'TwoPathConvNeXtBlock',
    'TwoPathConvNeXtStage',
    'TwoPathSwinStage',
    'TwoPathWindowBlock',
    'ViTBlock',
    'WindowAttention',
    'WindowBlock',
    'WindowStage',
    'build_norm2d',
    'keep_in_graph',
    'norm_to_map',
]
