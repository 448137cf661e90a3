# FPN head with a compact Swin on CamVid. Step 2 of 4: adaptation to all sparsities.
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/train.py THIS_FILE
# Expect:  no number; validation is at sparsity 0.
_base_ = ['./fpn_swin-micro-p4-w7_20e_camvid-336x336.py', '../_base_/sparsity_adaptation.py']

load_from = 'work_dirs/fpn_swin-micro-p4-w7_20e_camvid-336x336/epoch_20.pth'

max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=0.0003))
