# UPerNet with DynamicConvNeXt-T on ADE20K. Step 2: training at the published sparsity.
#
# 0.7, 0.5 and 0.3 of the positions of stage 3 go through the MLP. Decisions are free in training
# (draw='gumbel'), as published.
#
# Paper:   dynamic spatial sparsification, arXiv 2207.01580; the length is ours,
#          of it the backbone is held for the published 1/24
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no number of ours or published.
_base_ = ['./upernet_dynamic-convnext-t_160k_ade20k-512x512.py', '../_base_/dynamicvit/dynamic-convnext.py']

load_from = 'https://download.openmmlab.com/mmsegmentation/v0.5/convnext/upernet_convnext_tiny_fp16_512x512_160k_ade20k/upernet_convnext_tiny_fp16_512x512_160k_ade20k_20220227_124553-cad485de.pth'

model = _base_.rho70_model

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=10.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self'),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=3500, by_epoch=False),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(512, 512)),
]

train_cfg = dict(max_iters=80000, val_interval=8000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=500, end=80000),
]
default_hooks = dict(checkpoint=dict(interval=8000))

optim_wrapper = dict(
    constructor='DefaultOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0, custom_keys=_base_.rates),
)
