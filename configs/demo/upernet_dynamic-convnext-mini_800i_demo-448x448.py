# UPerNet with a small ConvNeXt on the embedded demo set. Step 1: dense.
#
# Paper:   ConvNeXt, arXiv 2201.03545; UPerNet, arXiv 1807.10221
# Command: python tools/train.py THIS_FILE
# Expect:  mIoU 88 on the validation pictures (one run of ours; README.md beside this file says more).
_base_ = './upernet_swin-mini-p4-w7_800i_demo-448x448.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='sparsevit_mm.DynamicConvNeXt',
        arch=dict(depths=(2, 2, 6, 2), channels=(32, 64, 128, 256)),
        layer_scale_init_value=1.0,
    ),
)
