# UPerNet with Swin-T on ADE20K. Step 1 of 4: dense.
#
# Paper:   SparseViT, arXiv 2303.17605 has no such row
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  mIoU 44.41 (mmseg).
# mmseg's own checkpoint of the base config loads as it is and saves this step.
_base_ = 'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)

model = dict(backbone=dict(type='sparsevit_mm.SparseSwin'))
