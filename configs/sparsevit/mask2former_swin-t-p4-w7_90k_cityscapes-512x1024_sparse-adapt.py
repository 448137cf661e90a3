# Mask2Former with Swin-T on Cityscapes. Step 2 of 4: adaptation to all sparsities.
#
# Paper:   SparseViT, arXiv 2303.17605; a tenth of the dense learning rate as on COCO, the length is ours
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no published number; validation is at sparsity 0.
_base_ = ['./mask2former_swin-t-p4-w7_90k_cityscapes-512x1024.py', '../_base_/sparsity_adaptation.py']

load_from = 'https://download.openmmlab.com/mmsegmentation/v0.5/mask2former/mask2former_swin-t_8xb2-90k_cityscapes-512x1024/mask2former_swin-t_8xb2-90k_cityscapes-512x1024_20221127_144501-36c59341.pth'

train_cfg = dict(max_iters=24000, val_interval=3000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=500, end=24000),
]
default_hooks = dict(checkpoint=dict(interval=3000))
optim_wrapper = dict(optimizer=dict(lr=0.00001))
