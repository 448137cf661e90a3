# Mask R-CNN with a small Swin on the embedded demo set. Step 2 of 4: adaptation to all sparsities.
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/train.py THIS_FILE
# Expect:  no number; validation is at sparsity 0.
_base_ = ['./mask-rcnn_swin-mini-p4-w7_fpn_12e_demo-448x448.py', '../_base_/sparsity_adaptation.py']

load_from = 'work_dirs/mask-rcnn_swin-mini-p4-w7_fpn_12e_demo-448x448/epoch_12.pth'

max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=0, end=max_epochs)]
optim_wrapper = dict(optimizer=dict(lr=0.0001))
