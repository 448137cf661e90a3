# FPN head with a compact Swin on CamVid. Step 4 of 4: fine-tuning at a fixed sparsity.
#
# The sparsity is an example to be replaced by what your search finds (best_config.py).
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/train.py THIS_FILE
# Expect:  see docs/results.md for those that searches have found.
_base_ = './fpn_swin-micro-p4-w7_20e_camvid-336x336.py'

model = dict(backbone=dict(sparsity=(0.6, 0.0, 0.2, 0.4, 0.5, 0.0)))

load_from = 'work_dirs/fpn_swin-micro-p4-w7_20e_camvid-336x336_sparse-adapt/epoch_4.pth'

max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=0.0003))
