# PGD with Swin-T on 25 + 8 frames of KITTI. Step 2: training with package tokens at fixed keep ratios.
#
# Stage 1 is dense; 0.7 of the windows stay in stage 2, half in stage 3, 0.7 in stage 4, an example: the paper's are
# not published. A learned selector chooses them, and the rest goes on as package tokens.
# Step 1 is pgd_swin-t-p4-w7_fpn_48e_kitti-mini-mono3d.py of ../sparsevit.
#
# Paper:   SPViT, arXiv 2112.13890; length and learning rate are ours
# Command: python tools/train.py THIS_FILE
# Expect:  no number: the set is there to try the steps on a CPU.
_base_ = ['../sparsevit/pgd_swin-t-p4-w7_fpn_48e_kitti-mini-mono3d.py', '../_base_/spvit/sparse-swin.py']

load_from = 'work_dirs/pgd_swin-t-p4-w7_fpn_48e_kitti-mini-mono3d/epoch_48.pth'

model = _base_.package_model

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=2.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self'),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=4),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(192, 640), interval=5),
]

train_cfg = dict(max_epochs=24, val_interval=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=24, milestones=[16, 22], gamma=0.1),
]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
