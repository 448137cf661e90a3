# Mask R-CNN with Swin-T on COCO at 672x672. Step 4 of 4: fine-tuning at a found sparsity, SparseViT's cfg2.
#
# Paper:   SparseViT, arXiv 2303.17605, table 2; sparsity and schedule are those of its released config
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  box AP 41.6, mask AP 37.7; backbone alone 116.5 GMACs for 4 images, 34.1 ms on an RTX A6000 (paper).
_base_ = './mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco-672x672.py'

model = dict(backbone=dict(sparsity=(0.6, 0.0, 0.2, 0.4, 0.5, 0.0)))

load_from = 'work_dirs/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco-672x672_sparse-adapt/epoch_12.pth'
optim_wrapper = dict(optimizer=dict(lr=0.00001))
