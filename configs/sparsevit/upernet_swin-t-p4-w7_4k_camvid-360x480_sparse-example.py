# UPerNet with Swin-T and a narrow head on CamVid. Step 4 of 4: fine-tuning at a fixed sparsity.
#
# The sparsity is an example to be replaced by what your search finds (best_config.py).
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/train.py THIS_FILE
# Expect:  no number.
_base_ = './upernet_swin-t-p4-w7_4k_camvid-360x480.py'

model = dict(backbone=dict(sparsity=(0.6, 0.0, 0.2, 0.4, 0.5, 0.0)))

load_from = 'work_dirs/upernet_swin-t-p4-w7_4k_camvid-360x480_sparse-adapt/iter_1000.pth'

train_cfg = dict(max_iters=1000, val_interval=500)
param_scheduler = [dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=1000)]
optim_wrapper = dict(optimizer=dict(lr=0.0001))
