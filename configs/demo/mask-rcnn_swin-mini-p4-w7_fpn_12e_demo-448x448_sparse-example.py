# Mask R-CNN with a small Swin on the embedded demo set. Step 4 of 4: fine-tuning at a fixed sparsity.
#
# The sparsity is an example to be replaced by what your search finds (best_config.py).
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/train.py THIS_FILE
# Expect:  no number: only tried for a few steps.
_base_ = './mask-rcnn_swin-mini-p4-w7_fpn_12e_demo-448x448.py'

model = dict(backbone=dict(sparsity=(0.6, 0.5, 0.3, 0.0)))

load_from = 'work_dirs/mask-rcnn_swin-mini-p4-w7_fpn_12e_demo-448x448_sparse-adapt/epoch_4.pth'

max_epochs = 4
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=0, end=max_epochs)]
optim_wrapper = dict(optimizer=dict(lr=0.0001))
