# UPerNet with DynamicConvNeXt-T and a narrow head on CamVid. Step 2: training at the published sparsity.
#
# 0.7, 0.5 and 0.3 of the positions of stage 3 go through the MLP. Decisions are free in training
# (draw='gumbel'), as published.
#
# Paper:   dynamic spatial sparsification, arXiv 2207.01580; length and rates are ours
# Command: python tools/train.py THIS_FILE
# Expect:  no number: the set is there to try the steps on a CPU.
_base_ = ['./upernet_dynamic-convnext-t_4k_camvid-360x480.py', '../_base_/dynamicvit/dynamic-convnext.py']

load_from = 'work_dirs/upernet_dynamic-convnext-t_4k_camvid-360x480/iter_4000.pth'

model = _base_.rho70_model

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=10.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self'),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=50, by_epoch=False),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(360, 480), interval=10),
]

train_cfg = dict(max_iters=1000, val_interval=500)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=50, end=1000),
]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
