# UPerNet with DynamicConvNeXt-T on ADE20K. Step 1: dense.
#
# Paper:   ConvNeXt, arXiv 2201.03545; UPerNet, arXiv 1807.10221
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  mIoU 46.11 (mmseg). mmseg's own checkpoint of the base config saves this step.
_base_ = ['mmseg::convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py', '../_base_/dynamicvit/convnext-t.py']
# Not mmpretrain, as in the base: the backbone is our own.
custom_imports = dict(_delete_=True, imports=['sparsevit_mm'], allow_failed_imports=False)

model = _base_.convnext_t_model
