# PGD with Swin-T on KITTI. Step 2 of 4: adaptation to all sparsities.
#
# Paper:   SparseViT, arXiv 2303.17605; learning rate and epochs as in its released config for COCO
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no published number; validation is at sparsity 0.
_base_ = ['./pgd_swin-t-p4-w7_fpn_4x_kitti-mono3d.py', '../_base_/sparsity_adaptation.py']

load_from = 'work_dirs/pgd_swin-t-p4-w7_fpn_4x_kitti-mono3d/epoch_48.pth'

train_cfg = dict(max_epochs=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(interval=12))
optim_wrapper = dict(optimizer=dict(lr=0.00001))
