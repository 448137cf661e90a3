"""Every backbone with both bypasses, small enough to run, compile and export in moments."""

from sparsevit_mm.models import DynamicConvNeXt, DynamicSwin, PrunedPiT, PrunedViT, SparseSwin

__all__ = ['FAMILIES', 'TWO_STAGES', 'VIT']

SWIN = dict(
    embed_dims=8, depths=(2,), num_heads=(2,), strides=(4,), out_indices=(0,), window_size=4, drop_path_rate=0.0
)
TWO_STAGES = SWIN | dict(depths=(1, 2), num_heads=(1, 2), strides=(4, 2), out_indices=(0, 1))
VIT = dict(img_size=64, patch_size=8, embed_dims=16, num_layers=3, num_heads=2, site_blocks=(1, 2), out_indices=(0, 2))
PIT = dict(arch=dict(head_dims=(8, 8), num_heads=(1, 2), depths=(1, 2)), img_size=64, out_indices=(0, 1))
CONVNEXT = dict(arch=dict(depths=(1, 3), channels=(16, 16)), out_indices=(0, 1), site_stage=1, site_blocks=(1, 2))
FAMILIES = {
    'swin': (SparseSwin, SWIN),
    'swin-package': (SparseSwin, SWIN | dict(bypass='package')),
    'dynamic-swin': (DynamicSwin, TWO_STAGES | dict(site_stage=1, site_blocks=(0, 1))),
    'convnext': (DynamicConvNeXt, CONVNEXT),
    'vit': (PrunedViT, VIT),
    'vit-package': (PrunedViT, VIT | dict(bypass='package')),
    'pit': (PrunedPiT, PIT),
}
