# UPerNet with a small PiT on the embedded demo set. Step 1: dense.
#
# Paper:   PiT, arXiv 2103.16302; UPerNet, arXiv 1807.10221
# Command: python tools/train.py THIS_FILE
# Expect:  no number: only tried for a few steps.
_base_ = './upernet_swin-mini-p4-w7_800i_demo-448x448.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='sparsevit_mm.PrunedPiT',
        arch=dict(head_dims=(16, 16, 16), num_heads=(2, 4, 8), depths=(2, 4, 2), patch_size=16, stride=8),
        img_size=(448, 448),
    ),
    decode_head=dict(in_channels=[32, 64, 128], in_index=[0, 1, 2]),
)
