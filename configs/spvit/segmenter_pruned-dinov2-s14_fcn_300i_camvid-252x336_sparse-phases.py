# Segmenter's linear head on a DINOv2 ViT-S/14, on CamVid. Step 2: training with package tokens, one selector after
# another.
#
# Instead of ..._sparse-package.py, to the same keep ratios. The selector before block 9 is switched on at once, that
# before block 6 after a sixth of the training and that before block 3 after another (layer-to-phase training).
#
# Paper:   SPViT, arXiv 2112.13890; lengths and rates are ours
# Command: python tools/train.py THIS_FILE
# Expect:  see README.md beside this file.
_base_ = './segmenter_pruned-dinov2-s14_fcn_300i_camvid-252x336_sparse-package.py'

custom_hooks = [
    dict(type='sparsevit_mm.SparsityScheduleHook', phases=dict(length=25)),
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=10.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self', kept_only=True),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(252, 336), interval=10),
]
