# Mask R-CNN with PiT-S on 100 + 100 images of COCO. Step 1: dense.
#
# Paper:   PiT, arXiv 2103.16302; data: COCO, arXiv 1405.0312
# Command: python tools/train.py THIS_FILE
# Expect:  no number: the set is there to try the steps on a CPU, without pretrained weights.
_base_ = ['../sparsevit/mask-rcnn_swin-t-p4-w7_fpn_24e_coco-mini.py', '../_base_/spvit/pit-s.py']

model = dict(backbone=dict(_base_.pit_s, init_cfg=None), **_base_.pit_s_mask_rcnn)
optim_wrapper = dict(paramwise_cfg=_base_.pit_s_rates)
