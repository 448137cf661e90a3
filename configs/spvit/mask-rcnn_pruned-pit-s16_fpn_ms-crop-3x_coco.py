# Mask R-CNN with PiT-S on COCO. Step 1: dense.
#
# The FPN starts at stride 8: anchors keep the stock sizes, RoIs of stride 4 are taken from that of 8.
#
# Paper:   PiT, arXiv 2103.16302, whose detector is a DETR; Mask R-CNN, arXiv 1703.06870
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no number of ours or published.
_base_ = ['mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_amp-ms-crop-3x_coco.py', '../_base_/spvit/pit-s.py']
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)

model = dict(backbone=_base_.pit_s, **_base_.pit_s_mask_rcnn)
optim_wrapper = dict(paramwise_cfg=_base_.pit_s_rates)
