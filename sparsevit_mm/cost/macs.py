"""Multiply-accumulate operations in closed form."""

from collections.abc import Callable, Sequence
from functools import singledispatch

from torch import nn

from ..models.backbones import SparseBackbone, SparseSwin
from ..models.backbones.swin_body import SwinBody
from ..ops import window_token_counts
from ..sparsity import keep_count

__all__ = ['CONVENTIONS', 'backbone_macs', 'count_macs', 'swin_body_macs', 'window_block_macs']

CONVENTIONS = ('executed', 'padded')


def count_macs(backbone: SparseBackbone, shape: tuple[int, int], convention: str = 'executed') -> int:
    """MACs of one image at the backbone's present sparsity: matrix products, attention and convolutions.

    Args:
        backbone: A sparse backbone.
        shape: ``(H, W)`` of the image in pixels, as the backbone gets it.
        convention: ``'executed'`` counts what runs. ``'padded'`` is that of SparseViT's tables (its section 5): the
            FFN is counted on whole padded windows, which neither stock Swin nor this package computes.

    Raises:
        ValueError: If the convention or the backbone is not known.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f'convention must be one of {CONVENTIONS}, got {convention!r}.')
    return backbone_macs(backbone, shape, convention == 'padded')


@singledispatch
def backbone_macs(backbone: SparseBackbone, shape: tuple[int, int], padded: bool) -> int:
    """MACs of one family of backbones; each registers its own."""
    known = ', '.join(cls.__name__ for cls in backbone_macs.registry if cls is not object)
    raise ValueError(f'count_macs does not know {type(backbone).__name__}; known: {known}.')


@backbone_macs.register
def _sparse_swin_macs(backbone: SparseSwin, shape: tuple[int, int], padded: bool) -> int:
    def stage_macs(index: int, grid: tuple[int, int]) -> int:
        stage, values = backbone.stages[index], backbone.sparsity[backbone.sparsity_layout.spans[index]]
        packages = _packages(stage, grid, values)
        blocks = sum(
            window_block_macs(block, grid, values[i // 2], padded, packages[i]) for i, block in enumerate(stage.blocks)
        )
        return blocks + _window_selector_macs(stage, grid, values)

    return swin_body_macs(backbone, shape, stage_macs)


def swin_body_macs(
    backbone: SwinBody, shape: tuple[int, int], stage_macs: Callable[[int, tuple[int, int]], int]
) -> int:
    """Patch embedding, the stages by a formula of their own, and patch merging.

    Args:
        backbone: A Swin.
        shape: ``(H, W)`` of the image in pixels.
        stage_macs: From the index of a stage and the size of its map in tokens.
    """
    projection = backbone.patch_embed.projection
    height, width = (-(-size // step) for size, step in zip(shape, projection.stride))
    macs = height * width * projection.weight.numel()
    for i, stage in enumerate(backbone.stages):
        macs += stage_macs(i, (height, width))
        if stage.downsample is not None:
            height, width = _merged(stage.downsample.sampler, (height, width))
            macs += height * width * stage.downsample.reduction.weight.numel()
    return macs


def window_block_macs(
    block: nn.Module, grid: Sequence[int], sparsity: float, padded_ffn: bool, packages: int = 0
) -> int:
    """Attention and FFN of the windows that are kept, and of package tokens.

    Args:
        block: A window block.
        grid: ``(H, W)`` of its map in tokens.
        sparsity: Fraction of the windows that it does not compute.
        padded_ffn: Whether the FFN is counted on padding.
        packages: Package tokens of an image.
    """
    attention = block.attn.w_msa
    dims, tokens = attention.embed_dims, attention.window_size**2
    counts = sorted(window_token_counts(*grid, attention.window_size, block.shift_size), reverse=True)
    kept = keep_count(len(counts), sparsity)
    rows = kept * tokens
    # The FFN runs on as many rows as the fullest windows have real tokens.
    ffn_rows = rows if padded_ffn else sum(counts[:kept])
    projections = (rows + packages) * 4 * dims * dims
    # Windows see themselves and the packages, packages all windows and each other.
    products = 2 * dims * (rows * (tokens + 2 * packages) + packages**2)
    return projections + products + (ffn_rows + packages) * 2 * dims * block.ffn.feedforward_channels


def _packages(stage: nn.Module, grid: Sequence[int], values: Sequence[float]) -> list[int]:
    """Package tokens of an image that each block of a stage computes."""
    windows = len(window_token_counts(*grid, stage.window_size, 0))
    packages, before, result = 0, windows, []
    for i in range(len(stage.blocks)):
        count = keep_count(windows, values[i // 2])
        if stage.package is not None and count < before and not (stage.adaptive and packages):
            packages = 1 if stage.package == 'merged' else packages + 1
        before = count
        result.append(packages)
    return result


def _window_selector_macs(stage: nn.Module, grid: Sequence[int], values: Sequence[float]) -> int:
    """Scoring, once for each shift that some pruned block has, in the stage or in each site."""
    scored = set()
    for i, block in enumerate(stage.blocks):
        windows = len(window_token_counts(*grid, stage.window_size, block.shift_size))
        if keep_count(windows, values[i // 2]) < windows:
            scored.add((i // 2 if stage.ranking == 'site' else 0, block.shift_size, windows))
    return sum(stage.selector.count_macs(windows) for _, _, windows in scored)


def _merged(unfold: nn.Unfold, grid: tuple[int, int]) -> tuple[int, int]:
    """Size of the map behind patch merging, which pads to the right and below so that every token is covered."""
    down, across = (-(-size // step) for size, step in zip(grid, unfold.stride))
    return down, across
