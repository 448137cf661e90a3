# Mask R-CNN with Swin-T on 100 + 100 images of COCO. Step 4 of 4: fine-tuning at a fixed sparsity.
#
# The sparsity is an example to be replaced by what your search finds (best_config.py).
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/train.py THIS_FILE
# Expect:  no number.
_base_ = './mask-rcnn_swin-t-p4-w7_fpn_24e_coco-mini.py'

model = dict(backbone=dict(sparsity=(0.6, 0.0, 0.2, 0.4, 0.5, 0.0)))

load_from = 'work_dirs/mask-rcnn_swin-t-p4-w7_fpn_24e_coco-mini_sparse-adapt/epoch_6.pth'

max_epochs = 6
train_cfg = dict(max_epochs=max_epochs, val_interval=3)
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, begin=0, end=max_epochs, milestones=[4, 5], gamma=0.1)]
optim_wrapper = dict(optimizer=dict(lr=0.00001))
