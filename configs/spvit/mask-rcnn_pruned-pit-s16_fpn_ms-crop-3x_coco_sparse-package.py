# Mask R-CNN with PiT-S on COCO. Step 2: training with package tokens at fixed keep ratios.
#
# 0.7 of the tokens stay in the second half of stage 1, 0.7 and then 0.4 in stage 2, half in that of stage 3, an
# example: the paper's are not published. A stage starts with all of its tokens and packs what it drops into one token.
# Decisions are free in training (draw='gumbel').
# The teacher is compared by its features where tokens were kept.
#
# Paper:   SPViT, arXiv 2112.13890; length and learning rate are ours, of it the backbone
#          learns at the published 0.01 and is held for the published sixth
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no number of ours or published.
_base_ = ['./mask-rcnn_pruned-pit-s16_fpn_ms-crop-3x_coco.py', '../_base_/spvit/pruned-pit.py']

load_from = 'work_dirs/mask-rcnn_pruned-pit-s16_fpn_ms-crop-3x_coco/epoch_36.pth'

model = _base_.package_model

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=2.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self', kept_only=True),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=2),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(800, 1344)),
]

train_cfg = dict(max_epochs=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
