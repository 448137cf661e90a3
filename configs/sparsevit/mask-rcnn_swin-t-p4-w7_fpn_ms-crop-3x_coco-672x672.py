# Mask R-CNN with Swin-T on COCO at 672x672. Step 1 of 4: dense.
#
# Paper:   SparseViT, arXiv 2303.17605, table 2
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  box AP 42.6, mask AP 38.8 (README of mit-han-lab/sparsevit); 46.0 and 41.6 at 1333x800 (mmdet).
# mmdet's own checkpoint of the base config loads as it is and saves this step.
_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_amp-ms-crop-3x_coco.py'
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)

model = dict(backbone=dict(type='sparsevit_mm.SparseSwin'))

# SparseViT stretches images to this size, which the windows of every stage divide: nothing is padded.
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=(672, 672), keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
