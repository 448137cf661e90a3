# UPerNet with a DINOv2 ViT-S/14 and a narrow head on CamVid. Step 1: dense.
#
# Paper:   DINOv2, arXiv 2304.07193; data: Brostow et al., Pattern Recognition Letters 30(2), 2009
# Command: python tools/train.py THIS_FILE
# Expect:  no number: the set is there to try the steps on a CPU.
_base_ = [
    'mmseg::_base_/models/upernet_vit-b16_ln_mln.py',
    'mmseg::_base_/default_runtime.py',
    '../_base_/datasets/camvid.py',
]
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(size=(360, 480)),
    pretrained=None,
    backbone=dict(
        type='sparsevit_mm.PrunedViT',
        img_size=(518, 518),
        patch_size=14,
        patch_bias=True,
        embed_dims=384,
        num_heads=6,
        final_norm=True,
        layer_scale_init_value=1e-5,
        init_cfg=dict(type='Pretrained', checkpoint='data/dinov2_vits14/dinov2_vits14_imgfocus_fp16.safetensors'),
    ),
    neck=dict(in_channels=[384, 384, 384, 384], out_channels=128),
    decode_head=dict(in_channels=[128, 128, 128, 128], channels=128, num_classes=11),
    auxiliary_head=dict(in_channels=128, channels=64, num_classes=11),
)

# bfloat16 halves the time of a step on a CPU with AVX-512 BF16 or AMX.
optim_wrapper = dict(
    type='sparsevit_mm.BFloat16OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0003, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'backbone': dict(lr_mult=0.1)}),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=200),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=200, end=2000),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2000, val_interval=1000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1000, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)
