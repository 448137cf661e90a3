# UPerNet with a DINOv2 ViT-S/14 and a narrow head on CamVid. Step 2: training at the published sparsity.
#
# It keeps 0.7 of the tokens at each of three places. Decisions are free in training (draw='gumbel'), as published.
# The teacher is compared by its logits: features of dropped tokens would only ask to keep them.
#
# Paper:   DynamicViT, arXiv 2106.02034; length and rates are ours
# Command: python tools/train.py THIS_FILE
# Expect:  no number: the set is there to try the steps on a CPU.
_base_ = ['./upernet_pruned-dinov2-s14_2k_camvid-360x480.py', '../_base_/dynamicvit/pruned-vit.py']

load_from = 'work_dirs/upernet_pruned-dinov2-s14_2k_camvid-360x480/iter_2000.pth'

model = _base_.rho70_model

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=2.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self', feature_weight=0.0),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=170, by_epoch=False),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(360, 480), interval=10),
]

train_cfg = dict(max_iters=1000, val_interval=500)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=50, end=1000),
]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
