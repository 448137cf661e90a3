# UPerNet with DeiT-S on ADE20K. Step 2: training with package tokens at fixed keep ratios.
#
# 0.7, 0.39 and 0.21 of the tokens stay from three places on; what a place drops goes on as a package token. The
# released code asks for .617, .369 and .137 and its logs end near .711, .445 and .214, where the published 2.65 GMACs
# are too. Decisions are free in training (draw='gumbel'), and each image is drawn to the ratios, since as many tokens
# of each are computed; ..._sparse-adaptive.py draws the mean of a batch to them, as published.
# The teacher is compared by its features where tokens were kept, and by its logits.
# Step 1 is upernet_pruned-deit-s16_160k_ade20k-512x512.py of ../dynamicvit, or mmseg's own weights, which are taken.
#
# Paper:   SPViT, arXiv 2112.13890; length and learning rate are ours, of it the backbone
#          learns at the published 0.01 and is held for the published sixth
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no number of ours or published; dense mIoU 42.87 (mmseg).
_base_ = ['../dynamicvit/upernet_pruned-deit-s16_160k_ade20k-512x512.py', '../_base_/spvit/pruned-vit.py']

load_from = 'https://download.openmmlab.com/mmsegmentation/v0.5/vit/upernet_deit-s16_512x512_160k_ade20k/upernet_deit-s16_512x512_160k_ade20k_20210621_160903-5110d916.pth'

model = _base_.package_model

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=2.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self', kept_only=True),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=6667, by_epoch=False),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(512, 512)),
]

train_cfg = dict(max_iters=40000, val_interval=5000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=500, end=40000),
]
default_hooks = dict(checkpoint=dict(interval=5000))

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
