# UPerNet with a small Swin on the embedded demo set. Step 2 of 4: adaptation to all sparsities.
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/train.py THIS_FILE
# Expect:  see README.md beside this file.
_base_ = ['./upernet_swin-mini-p4-w7_800i_demo-448x448.py', '../_base_/sparsity_adaptation.py']

load_from = 'work_dirs/upernet_swin-mini-p4-w7_800i_demo-448x448/iter_800.pth'

train_dataloader = dict(batch_size=2, dataset=dict(pipeline=_base_.whole_pipeline))
model = dict(data_preprocessor=dict(size=(448, 448)))

max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=0, end=max_iters)]
optim_wrapper = dict(optimizer=dict(lr=0.001))
