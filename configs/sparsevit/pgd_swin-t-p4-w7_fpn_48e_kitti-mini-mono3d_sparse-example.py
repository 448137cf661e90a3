# PGD with Swin-T on 25 + 8 frames of KITTI. Step 4 of 4: fine-tuning at a fixed sparsity.
#
# The sparsity is an example to be replaced by what your search finds (best_config.py).
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/train.py THIS_FILE
# Expect:  no number.
_base_ = './pgd_swin-t-p4-w7_fpn_48e_kitti-mini-mono3d.py'

model = dict(backbone=dict(sparsity=(0.6, 0.0, 0.2, 0.4, 0.5, 0.0)))

load_from = 'work_dirs/pgd_swin-t-p4-w7_fpn_48e_kitti-mini-mono3d_sparse-adapt/epoch_12.pth'

train_cfg = dict(max_epochs=12, val_interval=6)
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1)]
optim_wrapper = dict(optimizer=dict(lr=0.00001))
