# UPerNet with a small Swin on the embedded demo set. Step 4 of 4: fine-tuning at a fixed sparsity.
#
# The sparsity is an example to be replaced by what your search finds (best_config.py).
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/train.py THIS_FILE
# Expect:  see README.md beside this file.
_base_ = './upernet_swin-mini-p4-w7_800i_demo-448x448.py'

load_from = 'work_dirs/upernet_swin-mini-p4-w7_800i_demo-448x448_sparse-adapt/iter_300.pth'

train_dataloader = dict(batch_size=2, dataset=dict(pipeline=_base_.whole_pipeline))
model = dict(data_preprocessor=dict(size=(448, 448)), backbone=dict(sparsity=(0.6, 0.5, 0.3, 0.0)))

max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=0, end=max_iters)]
optim_wrapper = dict(optimizer=dict(lr=0.001))
