# UPerNet with a small Swin on the embedded demo set. Step 1 of 4: dense.
#
# Paper:   Swin, arXiv 2103.14030; UPerNet, arXiv 1807.10221
# Command: python tools/train.py THIS_FILE
# Expect:  mIoU 84 on the validation pictures (one run of ours; README.md beside this file says more).
_base_ = ['mmseg::_base_/default_runtime.py', '../_base_/datasets/demo_seg.py']
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(224, 224),
    ),
    backbone=dict(
        type='sparsevit_mm.SparseSwin',
        embed_dims=32,
        depths=(2, 2, 2, 2),
        num_heads=(2, 4, 8, 16),
        window_size=7,
        drop_path_rate=0.0,
    ),
    decode_head=dict(
        type='UPerHead',
        in_channels=[32, 64, 128, 256],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=32,
        dropout_ratio=0.0,
        num_classes=11,
        norm_cfg=dict(type='BN', requires_grad=True),
        align_corners=False,
        # Nearly all pixels are background.
        loss_decode=dict(type='CrossEntropyLoss', class_weight=[0.5] + [1.0] * 10),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

# bfloat16 halves the time of a step on a CPU with AVX-512 BF16 or AMX.
optim_wrapper = dict(
    type='sparsevit_mm.BFloat16OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.002, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys={'relative_position_bias_table': dict(decay_mult=0.0)}
    ),
    clip_grad=dict(max_norm=1.0),
)
max_iters = 800
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=50, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=100, max_keep_ckpts=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)
# The machine's own threads, and nothing of CUDA's.
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
randomness = dict(seed=0)
