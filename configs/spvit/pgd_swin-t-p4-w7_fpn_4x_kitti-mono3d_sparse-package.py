# PGD with Swin-T on KITTI. Step 2: training with package tokens at fixed keep ratios.
#
# Stage 1 is dense; 0.7 of the windows stay in stage 2, half in stage 3, 0.7 in stage 4, an example: the paper's are
# not published. A learned selector chooses them, and the rest goes on as package tokens.
# Step 1 is pgd_swin-t-p4-w7_fpn_4x_kitti-mono3d.py of ../sparsevit.
#
# Paper:   SPViT, arXiv 2112.13890; length and learning rate are ours, of it the backbone
#          learns at the published 0.01 and is held for the published sixth
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no number of ours or published.
_base_ = ['../sparsevit/pgd_swin-t-p4-w7_fpn_4x_kitti-mono3d.py', '../_base_/spvit/sparse-swin.py']

load_from = 'work_dirs/pgd_swin-t-p4-w7_fpn_4x_kitti-mono3d/epoch_48.pth'

model = _base_.package_model

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=2.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self'),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=4),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(384, 1248)),
]

train_cfg = dict(max_epochs=24)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=24, milestones=[16, 22], gamma=0.1),
]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
