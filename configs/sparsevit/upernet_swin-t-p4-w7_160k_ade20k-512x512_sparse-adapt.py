# UPerNet with Swin-T on ADE20K. Step 2 of 4: adaptation to all sparsities.
#
# Paper:   SparseViT, arXiv 2303.17605; a tenth of the dense learning rate as on COCO, the length is ours
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no published number; validation is at sparsity 0.
_base_ = ['./upernet_swin-t-p4-w7_160k_ade20k-512x512.py', '../_base_/sparsity_adaptation.py']

load_from = 'https://download.openmmlab.com/mmsegmentation/v0.5/swin/upernet_swin_tiny_patch4_window7_512x512_160k_ade20k_pretrain_224x224_1K/upernet_swin_tiny_patch4_window7_512x512_160k_ade20k_pretrain_224x224_1K_20210531_112542-e380ad3e.pth'

train_cfg = dict(max_iters=40000, val_interval=5000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=500, end=40000),
]
default_hooks = dict(checkpoint=dict(interval=5000))
optim_wrapper = dict(optimizer=dict(lr=0.000006))
