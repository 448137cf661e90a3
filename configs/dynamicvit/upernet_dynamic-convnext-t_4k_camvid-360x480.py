# UPerNet with DynamicConvNeXt-T and a narrow head on CamVid. Step 1: dense.
#
# Paper:   ConvNeXt, arXiv 2201.03545; data: Brostow et al., Pattern Recognition Letters 30(2), 2009
# Command: python tools/train.py THIS_FILE
# Expect:  no number: the set is there to try the steps on a CPU, without pretrained weights.
_base_ = '../sparsevit/upernet_swin-t-p4-w7_4k_camvid-360x480.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='sparsevit_mm.DynamicConvNeXt',
        arch='tiny',
        drop_path_rate=0.1,
        layer_scale_init_value=1.0,
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0, bias_decay_mult=0.0))
