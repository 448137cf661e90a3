# PGD with Swin-T on KITTI. Step 4 of 4: fine-tuning at a fixed sparsity.
#
# The sparsity is an example to be replaced by what your search finds (best_config.py): no paper gives one.
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no published number.
_base_ = './pgd_swin-t-p4-w7_fpn_4x_kitti-mono3d.py'

model = dict(backbone=dict(sparsity=(0.6, 0.0, 0.2, 0.4, 0.5, 0.0)))

load_from = 'work_dirs/pgd_swin-t-p4-w7_fpn_4x_kitti-mono3d_sparse-adapt/epoch_12.pth'

train_cfg = dict(max_epochs=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(interval=12))
optim_wrapper = dict(optimizer=dict(lr=0.00001))
