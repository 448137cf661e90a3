# UPerNet with a small Swin on the embedded demo set. Step 2, without a search: a learned selector chooses the windows.
#
# The selector is DynamicViT's predictor over windows, the blocks are SparseViT's. Without noise (noise=0) it learns
# within a few hundred steps; with the published one it needs many more.
#
# Paper:   SparseViT, arXiv 2303.17605; DynamicViT, arXiv 2106.02034; length and rates are ours
# Command: python tools/train.py THIS_FILE
# Expect:  see README.md beside this file.
_base_ = './upernet_swin-mini-p4-w7_800i_demo-448x448.py'

load_from = 'work_dirs/upernet_swin-mini-p4-w7_800i_demo-448x448/iter_800.pth'

train_dataloader = dict(batch_size=2, dataset=dict(pipeline=_base_.whole_pipeline))
model = dict(
    data_preprocessor=dict(size=(448, 448)),
    backbone=dict(sparsity=(0.6, 0.6, 0.6, 0.6), selector=dict(type='sparsevit_mm.PredictorSelector', noise=0)),
)

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=10.0),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(448, 448), interval=10),
]

max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=0, end=max_iters)]
optim_wrapper = dict(optimizer=dict(lr=0.001))
