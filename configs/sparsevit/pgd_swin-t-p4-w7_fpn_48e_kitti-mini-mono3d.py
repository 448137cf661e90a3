# PGD with Swin-T on 25 + 8 frames of KITTI. Step 1 of 4: dense.
#
# Paper:   PGD, arXiv 2107.14160; data: Geiger et al., CVPR 2012
# Command: python tools/train.py THIS_FILE
# Expect:  no number: the set is there to try the four steps on a CPU, without pretrained weights.
_base_ = './pgd_swin-t-p4-w7_fpn_4x_kitti-mono3d.py'

model = dict(backbone=dict(init_cfg=None))

data_root = 'data/kitti_mini/'
train_dataloader = dict(
    batch_size=1, num_workers=1, dataset=dict(data_root=data_root, ann_file='kitti_infos_train_mono3d.json')
)
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, ann_file='kitti_infos_val_mono3d.json'))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'kitti_infos_val_mono3d.json')
test_evaluator = val_evaluator

# bfloat16 halves the time of a step on a CPU with AVX-512 BF16 or AMX.
optim_wrapper = dict(type='sparsevit_mm.BFloat16OptimWrapper')
train_cfg = dict(max_epochs=48, val_interval=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=48, milestones=[32, 44], gamma=0.1),
]
default_hooks = dict(logger=dict(interval=5), checkpoint=dict(interval=12, max_keep_ckpts=2))
