# Mask R-CNN with DynamicConvNeXt-T on 100 + 100 images of COCO. Step 1: dense.
#
# Paper:   ConvNeXt, arXiv 2201.03545; data: COCO, arXiv 1405.0312
# Command: python tools/train.py THIS_FILE
# Expect:  no number: the set is there to try the steps on a CPU, without pretrained weights.
_base_ = '../sparsevit/mask-rcnn_swin-t-p4-w7_fpn_24e_coco-mini.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='sparsevit_mm.DynamicConvNeXt',
        arch='tiny',
        drop_path_rate=0.2,
        layer_scale_init_value=1.0,
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0, bias_decay_mult=0.0))
