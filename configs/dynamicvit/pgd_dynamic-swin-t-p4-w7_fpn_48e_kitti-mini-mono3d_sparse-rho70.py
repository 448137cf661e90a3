# PGD with DynamicSwin-T on 25 + 8 frames of KITTI. Step 2: training at the published sparsity.
#
# 0.7, 0.5 and 0.3 of the positions of stage 3 go through the FFN. Decisions are free in training
# (draw='gumbel'), as published.
# Step 1 is pgd_swin-t-p4-w7_fpn_48e_kitti-mini-mono3d.py of ../sparsevit.
#
# Paper:   dynamic spatial sparsification, arXiv 2207.01580; length and rates are ours
# Command: python tools/train.py THIS_FILE
# Expect:  no number: the set is there to try the steps on a CPU.
_base_ = ['../sparsevit/pgd_swin-t-p4-w7_fpn_48e_kitti-mini-mono3d.py', '../_base_/dynamicvit/dynamic-swin.py']

load_from = 'work_dirs/pgd_swin-t-p4-w7_fpn_48e_kitti-mini-mono3d/epoch_48.pth'

model = _base_.rho70_model

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=10.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self'),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=1),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(192, 640), interval=5),
]

train_cfg = dict(max_epochs=24, val_interval=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=24, milestones=[16, 22], gamma=0.1),
]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
