# Mask R-CNN with PiT-S on 100 + 100 images of COCO. Step 2: training with package tokens at fixed keep ratios.
#
# 0.7 of the tokens stay in the second half of stage 1, 0.7 and then 0.4 in stage 2, half in that of stage 3, an
# example: the paper's are not published. Decisions are free in training (draw='gumbel').
#
# Paper:   SPViT, arXiv 2112.13890; length and learning rate are ours
# Command: python tools/train.py THIS_FILE
# Expect:  no number: the set is there to try the steps on a CPU.
_base_ = ['./mask-rcnn_pruned-pit-s16_fpn_24e_coco-mini.py', '../_base_/spvit/pruned-pit.py']

load_from = 'work_dirs/mask-rcnn_pruned-pit-s16_fpn_24e_coco-mini/epoch_24.pth'

model = _base_.package_model

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=2.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self', kept_only=True),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=2),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(336, 448), interval=10),
]

train_cfg = dict(max_epochs=12, val_interval=6)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
