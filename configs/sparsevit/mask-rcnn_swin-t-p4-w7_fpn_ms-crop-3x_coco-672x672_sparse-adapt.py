# Mask R-CNN with Swin-T on COCO at 672x672. Step 2 of 4: adaptation to all sparsities.
#
# Paper:   SparseViT, arXiv 2303.17605; epochs, steps and learning rate are those of its released config
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no published number; validation is at sparsity 0.
_base_ = ['./mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco-672x672.py', '../_base_/sparsity_adaptation.py']

# SparseViT starts from epoch 20 of its dense run, which is not public; these are mmdet's weights after 36 epochs.
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/swin/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco_20210906_131725-bacf6f7b.pth'

train_cfg = dict(max_epochs=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
optim_wrapper = dict(optimizer=dict(lr=0.00001))
