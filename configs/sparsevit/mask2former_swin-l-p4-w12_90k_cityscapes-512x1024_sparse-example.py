# Mask2Former with Swin-L on Cityscapes. Step 4 of 4: fine-tuning at a fixed sparsity.
#
# The sparsity is an example to be replaced by what your search finds (best_config.py): no paper gives one.
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no published number.
_base_ = './mask2former_swin-l-p4-w12_90k_cityscapes-512x1024.py'

model = dict(backbone=dict(sparsity=(0.6, 0.0, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.4, 0.5, 0.5, 0.0)))

load_from = 'work_dirs/mask2former_swin-l-p4-w12_90k_cityscapes-512x1024_sparse-adapt/iter_24000.pth'

train_cfg = dict(max_iters=24000, val_interval=3000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=500, end=24000),
]
default_hooks = dict(checkpoint=dict(interval=3000))
optim_wrapper = dict(optimizer=dict(lr=0.00001))
