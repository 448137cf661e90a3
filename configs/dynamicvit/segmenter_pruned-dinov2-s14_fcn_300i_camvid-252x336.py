# Segmenter's linear head on a DINOv2 ViT-S/14, on CamVid. Step 1: dense.
#
# Pictures are 252x336 here, 18x24 patches, so that a run takes minutes on a CPU.
#
# Paper:   DINOv2, arXiv 2304.07193; Segmenter, arXiv 2105.05633; CamVid, Brostow et al., PRL 30(2), 2009
# Command: python tools/train.py THIS_FILE
# Expect:  see README.md beside this file.
_base_ = [
    'mmseg::_base_/models/segmenter_vit-b16_mask.py',
    'mmseg::_base_/default_runtime.py',
    '../_base_/datasets/camvid.py',
]
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(size=(252, 336), mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    pretrained=None,
    backbone=dict(
        type='sparsevit_mm.PrunedViT',
        img_size=(518, 518),
        patch_size=14,
        patch_bias=True,
        embed_dims=384,
        num_heads=6,
        layer_scale_init_value=1e-5,
        drop_path_rate=0.0,
        init_cfg=dict(type='Pretrained', checkpoint='data/dinov2_vits14/dinov2_vits14_imgfocus_fp16.safetensors'),
    ),
    decode_head=dict(
        _delete_=True,
        type='FCNHead',
        in_channels=384,
        channels=384,
        num_convs=0,
        dropout_ratio=0.0,
        concat_input=False,
        num_classes=11,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    test_cfg=dict(_delete_=True, mode='whole'),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(336, 252), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(252, 336), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(336, 252), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

# bfloat16 halves the time of a step on a CPU with AVX-512 BF16 or AMX.
optim_wrapper = dict(
    type='sparsevit_mm.BFloat16OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0005, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'backbone': dict(lr_mult=0.1)}),
    clip_grad=dict(max_norm=1.0),
)
max_iters = 300
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=40),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=40, end=max_iters),
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
