# Mask2Former with Swin-L on Cityscapes. Step 1 of 4: dense.
#
# Paper:   SparseViT, arXiv 2303.17605, section 4.4 (its Cityscapes numbers are not reproduced here)
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  mIoU 83.65 (mmseg).
# mmseg's own checkpoint of the base config loads as it is and saves this step.
_base_ = 'mmseg::mask2former/mask2former_swin-l-in22k-384x384-pre_8xb2-90k_cityscapes-512x1024.py'
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)

model = dict(backbone=dict(type='sparsevit_mm.SparseSwin'))
