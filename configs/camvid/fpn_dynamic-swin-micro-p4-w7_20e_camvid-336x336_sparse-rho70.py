# FPN head with a compact DynamicSwin on CamVid. Step 2: training at the published sparsity.
#
# 0.7, 0.5 and 0.3 of the positions of stage 3 go through the FFN. Decisions are free in training
# (draw='gumbel'), as published. It trains as long as steps 2 and 4 of the Swin do together.
# Step 1 is fpn_swin-micro-p4-w7_20e_camvid-336x336.py.
#
# Paper:   dynamic spatial sparsification, arXiv 2207.01580; length and rates are ours
# Command: python tools/train.py THIS_FILE
# Expect:  see docs/results.md.
_base_ = ['./fpn_swin-micro-p4-w7_20e_camvid-336x336.py', '../_base_/dynamicvit/dynamic-swin.py']

load_from = 'work_dirs/fpn_swin-micro-p4-w7_20e_camvid-336x336/epoch_20.pth'

model = _base_.rho70_model

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=10.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self'),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=1),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(360, 480), interval=10),
]

max_epochs = 8
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
