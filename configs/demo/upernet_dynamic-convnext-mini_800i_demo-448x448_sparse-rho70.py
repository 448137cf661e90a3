# UPerNet with a small ConvNeXt on the embedded demo set. Step 2: training at the published sparsity.
#
# 0.7, 0.5 and 0.3 of the positions of stage 3 go through the MLP. Decisions are free in training
# (draw='gumbel'), as published.
#
# Paper:   dynamic spatial sparsification, arXiv 2207.01580; length and rates are ours
# Command: python tools/train.py THIS_FILE
# Expect:  mIoU 89 on the validation pictures (one run of ours; README.md beside this file says more).
_base_ = ['./upernet_dynamic-convnext-mini_800i_demo-448x448.py', '../_base_/dynamicvit/dynamic-convnext.py']

load_from = 'work_dirs/upernet_dynamic-convnext-mini_800i_demo-448x448/iter_800.pth'

model = dict(
    data_preprocessor=dict(size=(448, 448)),
    backbone=dict(
        sparsity=(0.3, 0.5, 0.7),
        selector=dict(type='sparsevit_mm.PredictorSelector', draw='gumbel'),
    ),
)

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=10.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self'),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=20, by_epoch=False),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(448, 448), interval=10),
]

train_dataloader = dict(batch_size=2, dataset=dict(pipeline=_base_.whole_pipeline))

max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=0, end=max_iters)]
optim_wrapper = dict(optimizer=dict(lr=0.001), paramwise_cfg=dict(custom_keys=_base_.rates))
