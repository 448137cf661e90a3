# UPerNet with DeiT-S on ADE20K. Step 2: training at the published sparsity.
#
# It keeps 0.7 of the tokens at each of three places. Decisions are free in training (draw='gumbel'), as published.
# The teacher is compared by its features where tokens were kept, and by its logits.
#
# Paper:   DynamicViT, arXiv 2106.02034; the length is ours, of it the backbone
#          is held for the published sixth
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no number of ours or published.
_base_ = ['./upernet_pruned-deit-s16_160k_ade20k-512x512.py', '../_base_/dynamicvit/pruned-vit.py']

load_from = 'https://download.openmmlab.com/mmsegmentation/v0.5/vit/upernet_deit-s16_512x512_160k_ade20k/upernet_deit-s16_512x512_160k_ade20k_20210621_160903-5110d916.pth'

model = _base_.rho70_model

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=2.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self', kept_only=True),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=6500, by_epoch=False),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(512, 512)),
]

train_cfg = dict(max_iters=40000, val_interval=5000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=500, end=40000),
]
default_hooks = dict(checkpoint=dict(interval=5000))

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
