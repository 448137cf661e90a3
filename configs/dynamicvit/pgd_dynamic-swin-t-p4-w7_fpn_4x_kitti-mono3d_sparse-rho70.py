# PGD with DynamicSwin-T on KITTI. Step 2: training at the published sparsity.
#
# 0.7, 0.5 and 0.3 of the positions of stage 3 go through the FFN. Decisions are free in training
# (draw='gumbel'), as published.
# Step 1 is pgd_swin-t-p4-w7_fpn_4x_kitti-mono3d.py of ../sparsevit.
#
# Paper:   dynamic spatial sparsification, arXiv 2207.01580; the length is ours,
#          of it the backbone is held for the published 1/24
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no number of ours or published.
_base_ = ['../sparsevit/pgd_swin-t-p4-w7_fpn_4x_kitti-mono3d.py', '../_base_/dynamicvit/dynamic-swin.py']

load_from = 'work_dirs/pgd_swin-t-p4-w7_fpn_4x_kitti-mono3d/epoch_48.pth'

model = _base_.rho70_model

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=10.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self'),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=1),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(384, 1248)),
]

train_cfg = dict(max_epochs=24)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=24, milestones=[16, 22], gamma=0.1),
]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
