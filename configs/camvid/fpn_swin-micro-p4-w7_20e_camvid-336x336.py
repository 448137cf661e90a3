# FPN head with a compact Swin (2-2-6-2 blocks, 32 channels) on CamVid. Step 1 of 4: dense.
#
# Epochs, not iterations, so that a run that is killed goes on without reading the pictures before.
#
# Paper:   Swin, arXiv 2103.14030; Panoptic FPN, arXiv 1901.02446; data: Brostow et al., PRL 30(2), 2009
# Command: python tools/train.py THIS_FILE
# Expect:  see docs/results.md, where it is trained with three seeds.
_base_ = ['mmseg::_base_/models/fpn_r50.py', 'mmseg::_base_/default_runtime.py', '../_base_/datasets/camvid.py']
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)

size = (336, 336)
model = dict(
    data_preprocessor=dict(size=size),
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='sparsevit_mm.SparseSwin',
        embed_dims=32,
        depths=(2, 2, 6, 2),
        num_heads=(2, 4, 8, 16),
        window_size=7,
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=32),
    decode_head=dict(
        in_channels=[32, 32, 32, 32],
        channels=32,
        num_classes=11,
        norm_cfg=dict(type='BN', requires_grad=True),
    ),
)

# Scales are width and height.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(480, 360), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
# Whole pictures. Labels stay as they are, so that a smaller scale is scored at full size too.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(480, 360), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=4,
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

# bfloat16 halves the time of a step on a CPU with AVX-512 BF16 or AMX.
optim_wrapper = dict(
    type='sparsevit_mm.BFloat16OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.001, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys={'relative_position_bias_table': dict(decay_mult=0.0)}
    ),
    clip_grad=dict(max_norm=1.0),
)
max_epochs = 20
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
log_processor = dict(by_epoch=True)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=2, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)
# The machine's own threads, and nothing of CUDA's.
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
