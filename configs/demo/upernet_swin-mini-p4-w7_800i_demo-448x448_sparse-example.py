# UPerNet with a small Swin on the embedded demo set. Step 4 of 4: fine-tuning at a fixed sparsity.
#
# The sparsity is an example to be replaced by what your search finds (best_config.py).
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/train.py THIS_FILE
# Expect:  see README.md beside this file.
_base_ = './upernet_swin-mini-p4-w7_800i_demo-448x448.py'

load_from = 'work_dirs/upernet_swin-mini-p4-w7_800i_demo-448x448_sparse-adapt/iter_300.pth'

# Whole pictures: of a crop of 224x224 the last stage is a single window, which is never skipped.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PhotoMetricDistortion', saturation_range=(0.8, 1.2), hue_delta=9),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
model = dict(data_preprocessor=dict(size=(448, 448)), backbone=dict(sparsity=(0.6, 0.5, 0.3, 0.0)))

max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=0, end=max_iters)]
optim_wrapper = dict(optimizer=dict(lr=0.0003))
