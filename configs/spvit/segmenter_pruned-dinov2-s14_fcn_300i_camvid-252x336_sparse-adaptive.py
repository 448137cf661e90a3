# Segmenter's linear head on a DINOv2 ViT-S/14, on CamVid. Step 2: training with package tokens, as many tokens of an
# image as it needs.
#
# Instead of ..._sparse-package.py. Images differ in what they keep and so in what they cost; the keep ratios of 0.7,
# 0.39 and 0.21 are those of the mean over a batch. For so few steps the best of each batch stay (draw='batch'): free
# decisions, as published, do not find their number in them.
#
# Paper:   SPViT, arXiv 2112.13890; length and rates are ours
# Command: python tools/train.py THIS_FILE
# Expect:  see README.md beside this file.
_base_ = './segmenter_pruned-dinov2-s14_fcn_300i_camvid-252x336_sparse-package.py'

model = dict(backbone=dict(counts='adaptive', selector=dict(draw='batch')))

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=10.0, reduction='batch'),
    dict(type='sparsevit_mm.DistillationHook', teacher='self', kept_only=True),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(252, 336), interval=10),
]
