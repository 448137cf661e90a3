"""Multiply-accumulate operations of PiT in closed form."""

from ..models.backbones import PrunedPiT
from .macs import backbone_macs
from .macs_vit import token_blocks_macs

__all__: list[str] = []


@backbone_macs.register
def _pit_macs(backbone: PrunedPiT, shape: tuple[int, int], padded: bool) -> int:
    patch, stride = backbone.arch.patch_size, backbone.arch.stride
    height, width = (max(0, -(-(size - patch) // stride)) + 1 for size in shape)
    macs = height * width * backbone.patch_embed['conv'].weight.numel()
    for i, (blocks, sites) in enumerate(zip(backbone.stages, backbone.site_selectors)):
        macs += token_blocks_macs(blocks, sites, backbone.stage_sparsity(i), height * width)
        if i < len(backbone.pools):
            pool = backbone.pools[i]
            height, width = ((size - 1) // 2 + 1 for size in (height, width))
            macs += height * width * pool.conv.weight.numel() + backbone.num_prefix * pool.fc.weight.numel()
    return macs
