# UPerNet with PiT-S on ADE20K. Step 1: dense.
#
# It has maps of strides 8, 16 and 32; the auxiliary head is on that of 16, as with a Swin.
#
# Paper:   PiT, arXiv 2103.16302; UPerNet, arXiv 1807.10221
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no number of ours or published.
_base_ = [
    'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py',
    '../_base_/spvit/pit-s.py',
]
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)

model = dict(backbone=_base_.pit_s, **_base_.pit_s_upernet)
optim_wrapper = dict(paramwise_cfg=_base_.pit_s_rates)
