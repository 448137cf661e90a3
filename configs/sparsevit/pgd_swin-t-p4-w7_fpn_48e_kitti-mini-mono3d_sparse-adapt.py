# PGD with Swin-T on 25 + 8 frames of KITTI. Step 2 of 4: adaptation to all sparsities.
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/train.py THIS_FILE
# Expect:  no number; validation is at sparsity 0.
_base_ = ['./pgd_swin-t-p4-w7_fpn_48e_kitti-mini-mono3d.py', '../_base_/sparsity_adaptation.py']

load_from = 'work_dirs/pgd_swin-t-p4-w7_fpn_48e_kitti-mini-mono3d/epoch_48.pth'

train_cfg = dict(max_epochs=12, val_interval=6)
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1)]
optim_wrapper = dict(optimizer=dict(lr=0.00001))
