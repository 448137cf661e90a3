# The embedded demo set with semantic maps; made in the user's cache on first use (dataset.data_root to change that).
dataset_type = 'sparsevit_mm.DemoSegDataset'
# Colours tell digits apart, so they are changed with care.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomCrop', crop_size=(224, 224), cat_max_ratio=0.93),
    dict(
        type='PhotoMetricDistortion',
        brightness_delta=24,
        contrast_range=(0.8, 1.2),
        saturation_range=(0.9, 1.1),
        hue_delta=4,
    ),
    dict(type='PackSegInputs'),
]
# For adaptation and fine-tuning: of a crop of 224x224 the last stage is a single window, which is never skipped.
whole_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    train_pipeline[3],
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type=dataset_type, split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, split='val', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
