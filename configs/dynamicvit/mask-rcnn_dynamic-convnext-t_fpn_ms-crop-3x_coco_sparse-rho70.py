# Mask R-CNN with DynamicConvNeXt-T on COCO. Step 2: training at the published sparsity.
#
# 0.7, 0.5 and 0.3 of the positions of stage 3 go through the MLP. Decisions are free in training
# (draw='gumbel'), as published.
#
# Paper:   dynamic spatial sparsification, arXiv 2207.01580; the length is ours
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no number of ours or published.
_base_ = ['./mask-rcnn_dynamic-convnext-t_fpn_ms-crop-3x_coco.py', '../_base_/dynamicvit/dynamic-convnext.py']

load_from = 'https://download.openmmlab.com/mmdetection/v2.0/convnext/mask_rcnn_convnext-t_p4_w7_fpn_fp16_ms-crop_3x_coco/mask_rcnn_convnext-t_p4_w7_fpn_fp16_ms-crop_3x_coco_20220426_154953-050731f4.pth'

model = _base_.rho70_model

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=10.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self'),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=1),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(800, 1344)),
]

train_cfg = dict(max_epochs=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]

optim_wrapper = dict(
    constructor='DefaultOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0, custom_keys=_base_.rates),
)
