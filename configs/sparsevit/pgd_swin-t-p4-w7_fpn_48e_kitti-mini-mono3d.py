# PGD with Swin-T on 25 + 8 frames of KITTI. Step 1 of 4: dense.
#
# Paper:   PGD, arXiv 2107.14160; data: Geiger et al., CVPR 2012
# Command: python tools/train.py THIS_FILE
# Expect:  no number: the set is there to try the four steps on a CPU, without pretrained weights.
_base_ = './pgd_swin-t-p4-w7_fpn_4x_kitti-mono3d.py'

# Deformable convolutions take most of the time of a step on a CPU.
model = dict(backbone=dict(init_cfg=None), bbox_head=dict(dcn_on_last_conv=False))

# Half the size. Resize3D scales the camera matrix with the image; mmdet's Resize, at full size in the base, does not.
data_root = 'data/kitti_mini/'
resize = dict(type='Resize3D', scale=(624, 188), keep_ratio=True)
train_pipeline = [
    dict(type='LoadImageFromFileMono3D'),
    dict(
        type='LoadAnnotations3D',
        with_bbox=True,
        with_label=True,
        with_attr_label=False,
        with_bbox_3d=True,
        with_label_3d=True,
        with_bbox_depth=True,
    ),
    resize,
    dict(type='RandomFlip3D', flip_ratio_bev_horizontal=0.5),
    dict(
        type='Pack3DDetInputs',
        keys=['img', 'gt_bboxes', 'gt_bboxes_labels', 'gt_bboxes_3d', 'gt_labels_3d', 'centers_2d', 'depths'],
    ),
]
test_pipeline = [dict(type='LoadImageFromFileMono3D'), resize, dict(type='Pack3DDetInputs', keys=['img'])]
train_dataloader = dict(
    batch_size=1,
    num_workers=1,
    dataset=dict(data_root=data_root, ann_file='kitti_infos_train_mono3d.json', pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(data_root=data_root, ann_file='kitti_infos_val_mono3d.json', pipeline=test_pipeline),
)
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
