# FCOS3D with Swin-T on nuScenes. Step 1 of 4: dense.
#
# Paper:   FCOS3D, arXiv 2104.10956. SparseViT's own nuScenes numbers are of BEVDet, another detector
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no published number for this backbone; mAP 29.9, NDS 37.3 with ResNet-101 and DCN (mmdet3d).
_base_ = ['mmdet3d::fcos3d/fcos3d_r101-caffe-dcn_fpn_head-gn_8xb2-1x_nus-mono3d.py', '../_base_/mono3d_swin-t.py']
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)

model = _base_.swin_t_model
optim_wrapper = _base_.swin_t_optim_wrapper

default_hooks = dict(checkpoint=dict(interval=1))
