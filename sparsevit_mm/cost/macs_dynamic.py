"""Multiply-accumulate operations of backbones with fast and slow paths in closed form."""

from torch import nn

from ..models.backbones import DynamicConvNeXt, DynamicSwin
from ..models.layers import FastPath, PathSelectors
from ..sparsity import keep_count
from .macs import backbone_macs, swin_body_macs, window_block_macs

__all__: list[str] = []


@backbone_macs.register
def _dynamic_swin_macs(backbone: DynamicSwin, shape: tuple[int, int], padded: bool) -> int:
    def stage_macs(index: int, grid: tuple[int, int]) -> int:
        stage, length, macs = backbone.stages[index], grid[0] * grid[1], 0
        for i, (block, sparsity) in enumerate(zip(stage.blocks, backbone.of_blocks(index)[0])):
            macs += _selection_macs(stage.selectors, i, length, sparsity)
            if keep_count(length, sparsity) == length:
                macs += window_block_macs(block, grid, 0.0, padded)
            else:  # paths are of tokens, of which none is padding
                token = 2 * block.ffn.embed_dims * block.ffn.feedforward_channels
                macs += window_block_macs(block, grid, 0.0, False) - length * token
                macs += _paths_macs(token, block.fast, length, sparsity)
        return macs

    return swin_body_macs(backbone, shape, stage_macs)


@backbone_macs.register
def _dynamic_convnext_macs(backbone: DynamicConvNeXt, shape: tuple[int, int], padded: bool) -> int:
    height, width = shape
    macs = 0
    parts = zip(backbone.downsample_layers, backbone.stages, backbone.site_selectors)
    for index, (downsample, stage, selectors) in enumerate(parts):
        conv = next(layer for layer in downsample if isinstance(layer, nn.Conv2d))
        height, width = height // conv.stride[0], width // conv.stride[1]
        length = height * width
        macs += length * conv.weight.numel()
        for i, (block, sparsity) in enumerate(zip(stage.blocks, backbone.of_blocks(index)[0])):
            token = block.pointwise_conv1.weight.numel() + block.pointwise_conv2.weight.numel()
            macs += _selection_macs(selectors, i, length, sparsity)
            macs += length * block.depthwise_conv.weight.numel()
            if keep_count(length, sparsity) == length:
                macs += length * token
            else:
                macs += _paths_macs(token, block.fast, length, sparsity)
    return macs


def _selection_macs(selectors: PathSelectors, block: int, length: int, sparsity: float) -> int:
    selector = selectors.at(block)
    return 0 if selector is None or keep_count(length, sparsity) == length else selector.count_macs(length)


def _paths_macs(token: int, fast: FastPath, length: int, sparsity: float) -> int:
    """Both paths of a block, of which the slow one takes ``token`` for each token."""
    kept = keep_count(length, sparsity)
    return kept * token + (length - kept) * fast.linear.weight.numel()
