# UPerNet with PiT-S and a narrow head on CamVid. Step 1: dense.
#
# Paper:   PiT, arXiv 2103.16302; data: Brostow et al., Pattern Recognition Letters 30(2), 2009
# Command: python tools/train.py THIS_FILE
# Expect:  no number: the set is there to try the steps on a CPU, without pretrained weights.
_base_ = ['../sparsevit/upernet_swin-t-p4-w7_4k_camvid-360x480.py', '../_base_/spvit/pit-s.py']

model = dict(backbone=dict(_base_.pit_s, init_cfg=None), **_base_.pit_s_upernet)
optim_wrapper = dict(paramwise_cfg=_base_.pit_s_rates)
