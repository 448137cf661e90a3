# Mask R-CNN with DynamicConvNeXt-T on COCO. Step 1: dense.
#
# Paper:   ConvNeXt, arXiv 2201.03545; Mask R-CNN, arXiv 1703.06870
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  box AP 46.2, mask AP 41.7 (mmdet). mmdet's own checkpoint of the base config saves this step.
_base_ = ['mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py', '../_base_/dynamicvit/convnext-t.py']
# Not mmpretrain, as in the base: the backbone is our own.
custom_imports = dict(_delete_=True, imports=['sparsevit_mm'], allow_failed_imports=False)

model = _base_.convnext_t_model
