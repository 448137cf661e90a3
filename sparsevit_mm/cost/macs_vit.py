"""Multiply-accumulate operations of plain ViTs in closed form."""

import math
from collections.abc import Sequence

from ..models.backbones import PrunedViT
from ..models.layers import TokenSites, ViTBlock
from ..selectors import Selector
from ..sparsity import keep_count
from .macs import backbone_macs

__all__ = ['token_blocks_macs']


@backbone_macs.register
def _vit_macs(backbone: PrunedViT, shape: tuple[int, int], padded: bool) -> int:
    projection = backbone.patch_embed.projection
    total = math.prod(_patches(backbone, shape))
    blocks = token_blocks_macs(backbone.layers, backbone.site_selectors, backbone.sparsity, total)
    return total * projection.weight.numel() + blocks


def token_blocks_macs(blocks: Sequence[ViTBlock], sites: TokenSites, sparsity: Sequence[float], total: int) -> int:
    """MACs of blocks that drop tokens on the way, and of their selectors.

    Args:
        blocks: The blocks.
        sites: Their sites.
        sparsity: One value a site.
        total: Tokens of the image.
    """
    macs, present, packages = 0, total, 0
    for i, block in enumerate(blocks):
        if i in sites.blocks:
            site = sites.blocks.index(i)
            count = keep_count(total, sparsity[site])
            pool = total if sites.reactivate else present
            if count < pool:
                macs += _selection_macs(sites[site], block, pool, sites.prefix)
                if sites.package is not None:
                    packages = 1 if sites.reactivate or sites.package == 'merged' else packages + 1
            present = count
        macs += _block_macs(block, sites.prefix + present + packages)
    return macs


def _patches(backbone: PrunedViT, shape: tuple[int, int]) -> tuple[int, int]:
    projection = backbone.patch_embed.projection
    if backbone.patch_embed.adaptive_padding is not None:
        down, across = (-(-size // step) for size, step in zip(shape, projection.stride))
        return down, across
    sides = zip(shape, projection.padding, projection.kernel_size, projection.stride)
    down, across = ((size + 2 * pad - kernel) // step + 1 for size, pad, kernel, step in sides)
    return down, across


def _block_macs(block: ViTBlock, tokens: int) -> int:
    dims, hidden = block.attn.embed_dims, block.ffn.feedforward_channels
    projections = 4 * tokens * dims * dims
    products = 2 * tokens * tokens * dims
    return projections + products + tokens * (2 * dims + (block.ffn.num_fcs - 2) * hidden) * hidden


def _selection_macs(selector: Selector, block: ViTBlock, candidates: int, prefix: int) -> int:
    macs = selector.count_macs(candidates)
    if selector.wants_class_attention:  # a query of the class token, keys of all, and their products
        dims, tokens = block.attn.embed_dims, candidates + prefix
        macs += dims * dims + tokens * dims * dims + tokens * dims
    return macs
