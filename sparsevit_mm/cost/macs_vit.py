"""Multiply-accumulate operations of plain ViTs in closed form."""

import math

from ..models.backbones import PrunedViT
from ..models.layers import ViTBlock
from ..sparsity import keep_count
from .macs import backbone_macs

__all__: list[str] = []


@backbone_macs.register
def _vit_macs(backbone: PrunedViT, shape: tuple[int, int], padded: bool) -> int:
    projection = backbone.patch_embed.projection
    total = math.prod(_patches(backbone, shape))
    macs = total * projection.weight.numel()
    prefix, present, packages = backbone.num_prefix, total, 0
    for i, block in enumerate(backbone.layers):
        if i in backbone.site_blocks:
            site = backbone.site_blocks.index(i)
            count = keep_count(total, backbone.sparsity[site])
            pool = total if backbone.reactivate else present
            if count < pool:
                macs += _selection_macs(backbone, block, site, pool)
                packages = _packages(backbone, packages)
            present = count
        macs += _block_macs(block, prefix + present + packages)
    return macs


def _packages(backbone: PrunedViT, before: int) -> int:
    """Package tokens from a site on that drops something."""
    if backbone.bypass != 'package':
        return 0
    alone = backbone.reactivate or backbone.site_selectors.package == 'merged'
    return 1 if alone else before + 1


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


def _selection_macs(backbone: PrunedViT, block: ViTBlock, site: int, candidates: int) -> int:
    selector = backbone.site_selectors[site]
    macs = selector.count_macs(candidates)
    if selector.wants_class_attention:  # a query of the class token, keys of all, and their products
        dims, tokens = block.attn.embed_dims, candidates + backbone.num_prefix
        macs += dims * dims + tokens * dims * dims + tokens * dims
    return macs
