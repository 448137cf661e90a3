# UPerNet with a small plain ViT on the embedded demo set. Step 1: dense.
#
# Paper:   ViT, arXiv 2010.11929; UPerNet, arXiv 1807.10221
# Command: python tools/train.py THIS_FILE
# Expect:  no number: only tried for a few steps.
_base_ = './upernet_swin-mini-p4-w7_800i_demo-448x448.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='sparsevit_mm.PrunedViT',
        img_size=(448, 448),
        patch_size=16,
        patch_bias=True,
        embed_dims=128,
        num_layers=8,
        num_heads=4,
        mlp_ratio=4,
        out_indices=(1, 3, 5, 7),
        final_norm=True,
        site_blocks=(2, 4, 6),
    ),
    neck=dict(type='MultiLevelNeck', in_channels=[128] * 4, out_channels=64, scales=[4, 2, 1, 0.5]),
    decode_head=dict(in_channels=[64] * 4),
)
