# UPerNet with Swin-T and a narrow head on CamVid. Step 2 of 4: adaptation to all sparsities.
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/train.py THIS_FILE
# Expect:  no number; validation is at sparsity 0.
_base_ = ['./upernet_swin-t-p4-w7_4k_camvid-360x480.py', '../_base_/sparsity_adaptation.py']

load_from = 'work_dirs/upernet_swin-t-p4-w7_4k_camvid-360x480/iter_4000.pth'

train_cfg = dict(max_iters=1000, val_interval=500)
param_scheduler = [dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=1000)]
optim_wrapper = dict(optimizer=dict(lr=0.0001))
