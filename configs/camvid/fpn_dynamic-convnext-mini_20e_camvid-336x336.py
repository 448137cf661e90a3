# FPN head with a compact ConvNeXt (2-2-6-2 blocks, 32 channels) on CamVid. Step 1: dense.
#
# Paper:   ConvNeXt, arXiv 2201.03545; Panoptic FPN, arXiv 1901.02446; data: Brostow et al., PRL 30(2), 2009
# Command: python tools/train.py THIS_FILE
# Expect:  see docs/results.md.
_base_ = './fpn_swin-micro-p4-w7_20e_camvid-336x336.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='sparsevit_mm.DynamicConvNeXt',
        arch=dict(depths=(2, 2, 6, 2), channels=(32, 64, 128, 256)),
        drop_path_rate=0.1,
        layer_scale_init_value=1.0,
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0, bias_decay_mult=0.0))
