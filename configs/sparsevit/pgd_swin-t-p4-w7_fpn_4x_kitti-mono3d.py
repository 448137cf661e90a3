# PGD with Swin-T on KITTI. Step 1 of 4: dense.
#
# Paper:   PGD, arXiv 2107.14160
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no published number for this backbone; mAP 18.33 with ResNet-101 (mmdet3d: Car, 3D, AP11, moderate).
_base_ = 'mmdet3d::pgd/pgd_r101-caffe_fpn_head-gn_4xb3-4x_kitti-mono3d.py'
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)

model = dict(
    # The base model is made for a caffe ResNet: BGR without scaling. Swin wants what ImageNet training gave it.
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type='sparsevit_mm.SparseSwin',
        embed_dims=96,
        depths=(2, 2, 6, 2),
        num_heads=(3, 6, 12, 24),
        window_size=7,
        drop_path_rate=0.2,
        convert_weights=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth',
        ),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0001, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys={
            'absolute_pos_embed': dict(decay_mult=0.0),
            'relative_position_bias_table': dict(decay_mult=0.0),
            'norm': dict(decay_mult=0.0),
        }
    ),
    clip_grad=dict(max_norm=35, norm_type=2),
)

# The same numbers as KittiMetric's, without the CUDA card that one needs.
val_evaluator = dict(type='sparsevit_mm.KittiMonoMetric')
test_evaluator = val_evaluator

default_hooks = dict(checkpoint=dict(interval=1))
