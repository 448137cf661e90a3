# Mask R-CNN with DynamicConvNeXt-T on COCO. Step 1: dense.
#
# Paper:   ConvNeXt, arXiv 2201.03545; Mask R-CNN, arXiv 1703.06870
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  box AP 46.2, mask AP 41.7 (mmdet). mmdet's own checkpoint of the base config saves this step.
_base_ = 'mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py'
# Not mmpretrain, as in the base: the backbone is our own.
custom_imports = dict(_delete_=True, imports=['sparsevit_mm'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='sparsevit_mm.DynamicConvNeXt',
        arch='tiny',
        drop_path_rate=0.4,
        layer_scale_init_value=1.0,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmclassification/v0/convnext/downstream/convnext-tiny_3rdparty_32xb128-noema_in1k_20220301-795e9634.pth',
            prefix='backbone.',
        ),
    ),
)
