# Mask R-CNN with Swin-T on 100 + 100 images of COCO. Step 2 of 4: adaptation to all sparsities.
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/train.py THIS_FILE
# Expect:  no number; validation is at sparsity 0.
_base_ = ['./mask-rcnn_swin-t-p4-w7_fpn_24e_coco-mini.py', '../_base_/sparsity_adaptation.py']

load_from = 'work_dirs/mask-rcnn_swin-t-p4-w7_fpn_24e_coco-mini/epoch_24.pth'

max_epochs = 6
train_cfg = dict(max_epochs=max_epochs, val_interval=3)
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, begin=0, end=max_epochs, milestones=[4, 5], gamma=0.1)]
optim_wrapper = dict(optimizer=dict(lr=0.00001))
