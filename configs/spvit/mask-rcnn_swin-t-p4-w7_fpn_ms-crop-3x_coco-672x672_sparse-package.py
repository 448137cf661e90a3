# Mask R-CNN with Swin-T on COCO at 672x672. Step 2: training with package tokens at fixed keep ratios.
#
# Stage 1 is dense; 0.7 of the windows stay in stage 2, half in stage 3, 0.7 in stage 4, an example: the paper's are
# not published. A learned selector chooses them, and the rest goes on as package tokens.
# Step 1 is mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco-672x672.py of ../sparsevit, or mmdet's own weights, which are
# taken.
#
# Paper:   SPViT, arXiv 2112.13890; length and learning rate are ours, of it the backbone
#          learns at the published 0.01 and is held for the published sixth
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no number of ours or published; dense box AP 42.6, mask AP 38.8 (README of mit-han-lab/sparsevit).
_base_ = ['../sparsevit/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco-672x672.py', '../_base_/spvit/sparse-swin.py']

load_from = 'https://download.openmmlab.com/mmdetection/v2.0/swin/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco_20210906_131725-bacf6f7b.pth'

model = _base_.package_model

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=2.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self'),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=2),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(672, 672)),
]

train_cfg = dict(max_epochs=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
