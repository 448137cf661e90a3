# UPerNet with PiT-S on ADE20K. Step 2: training with package tokens at fixed keep ratios.
#
# 0.7 of the tokens stay in the second half of stage 1, 0.7 and then 0.4 in stage 2, half in that of stage 3, an
# example: the paper's are not published. A stage starts with all of its tokens and packs what it drops into one token.
# Decisions are free in training (draw='gumbel').
# The teacher is compared by its features where tokens were kept, and by its logits.
#
# Paper:   SPViT, arXiv 2112.13890; length and learning rate are ours, of it the backbone
#          learns at the published 0.01 and is held for the published sixth
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no number of ours or published.
_base_ = ['./upernet_pruned-pit-s16_160k_ade20k-512x512.py', '../_base_/spvit/pruned-pit.py']

load_from = 'work_dirs/upernet_pruned-pit-s16_160k_ade20k-512x512/iter_160000.pth'

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
