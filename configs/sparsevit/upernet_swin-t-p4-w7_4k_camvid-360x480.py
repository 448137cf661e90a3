# UPerNet with Swin-T and a narrow head on CamVid. Step 1 of 4: dense.
#
# Paper:   Swin, arXiv 2103.14030; data: Brostow et al., Pattern Recognition Letters 30(2), 2009
# Command: python tools/train.py THIS_FILE
# Expect:  no number: the set is there to try the four steps on a CPU, without pretrained weights.
_base_ = ['mmseg::_base_/models/upernet_swin.py', 'mmseg::_base_/default_runtime.py', '../_base_/datasets/camvid.py']
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(size=(360, 480)),
    backbone=dict(type='sparsevit_mm.SparseSwin', drop_path_rate=0.1),
    decode_head=dict(in_channels=[96, 192, 384, 768], channels=128, num_classes=11),
    auxiliary_head=dict(in_channels=384, channels=64, num_classes=11),
)

# bfloat16 halves the time of a step on a CPU with AVX-512 BF16 or AMX.
optim_wrapper = dict(
    type='sparsevit_mm.BFloat16OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0003, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys={
            'absolute_pos_embed': dict(decay_mult=0.0),
            'relative_position_bias_table': dict(decay_mult=0.0),
            'norm': dict(decay_mult=0.0),
        }
    ),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=200),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=200, end=4000),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=4000, val_interval=1000)
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
