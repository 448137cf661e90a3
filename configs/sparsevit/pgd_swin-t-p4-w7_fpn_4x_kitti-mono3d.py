# PGD with Swin-T on KITTI. Step 1 of 4: dense.
#
# Paper:   PGD, arXiv 2107.14160
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no published number for this backbone; mAP 18.33 with ResNet-101 (mmdet3d: Car, 3D, AP11, moderate).
_base_ = ['mmdet3d::pgd/pgd_r101-caffe_fpn_head-gn_4xb3-4x_kitti-mono3d.py', '../_base_/mono3d_swin-t.py']
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)

model = _base_.swin_t_model
optim_wrapper = _base_.swin_t_optim_wrapper

# The same numbers as KittiMetric's, without the CUDA card that one needs.
val_evaluator = dict(type='sparsevit_mm.KittiMonoMetric')
test_evaluator = val_evaluator

default_hooks = dict(checkpoint=dict(interval=1))
