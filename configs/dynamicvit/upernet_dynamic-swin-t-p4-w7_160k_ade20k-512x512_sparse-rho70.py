# UPerNet with DynamicSwin-T on ADE20K. Step 2: training at the published sparsity.
#
# 0.7, 0.5 and 0.3 of the positions of stage 3 go through the FFN. Decisions are free in training
# (draw='gumbel'), as published.
# Step 1 is upernet_swin-t-p4-w7_160k_ade20k-512x512.py of ../sparsevit, or mmseg's
# own weights, which are taken.
#
# Paper:   dynamic spatial sparsification, arXiv 2207.01580; the length is ours,
#          of it the backbone is held for the published 1/24
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no number of ours or published; dense mIoU 44.41 (mmseg).
_base_ = ['../sparsevit/upernet_swin-t-p4-w7_160k_ade20k-512x512.py', '../_base_/dynamicvit/dynamic-swin.py']

load_from = 'https://download.openmmlab.com/mmsegmentation/v0.5/swin/upernet_swin_tiny_patch4_window7_512x512_160k_ade20k_pretrain_224x224_1K/upernet_swin_tiny_patch4_window7_512x512_160k_ade20k_pretrain_224x224_1K_20210531_112542-e380ad3e.pth'

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

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
