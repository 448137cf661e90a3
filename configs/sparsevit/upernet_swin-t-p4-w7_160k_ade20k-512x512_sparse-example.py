# UPerNet with Swin-T on ADE20K. Step 4 of 4: fine-tuning at a fixed sparsity.
#
# The sparsity is an example to be replaced by what your search finds (best_config.py): no paper gives one.
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no published number.
_base_ = './upernet_swin-t-p4-w7_160k_ade20k-512x512.py'

model = dict(backbone=dict(sparsity=(0.6, 0.0, 0.2, 0.4, 0.5, 0.0)))

load_from = 'work_dirs/upernet_swin-t-p4-w7_160k_ade20k-512x512_sparse-adapt/iter_40000.pth'

train_cfg = dict(max_iters=40000, val_interval=5000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=500, end=40000),
]
default_hooks = dict(checkpoint=dict(interval=5000))
optim_wrapper = dict(optimizer=dict(lr=0.000006))
