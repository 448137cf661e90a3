# Mask R-CNN with DynamicSwin-T on COCO. Step 2: training at the published sparsity.
#
# 0.7, 0.5 and 0.3 of the positions of stage 3 go through the FFN. Decisions are free in training
# (draw='gumbel'), as published.
# Step 1 is that of mmdet, whose weights are taken.
#
# Paper:   dynamic spatial sparsification, arXiv 2207.01580; the length is ours
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no number of ours or published; dense box AP 46.0, mask AP 41.6 (mmdet).
_base_ = ['mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_amp-ms-crop-3x_coco.py', '../_base_/dynamicvit/dynamic-swin.py']
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)

load_from = 'https://download.openmmlab.com/mmdetection/v2.0/swin/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco_20210906_131725-bacf6f7b.pth'

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

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
