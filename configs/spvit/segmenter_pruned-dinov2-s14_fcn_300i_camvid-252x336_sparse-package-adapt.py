# Segmenter's linear head on a DINOv2 ViT-S/14, on CamVid. Step 2 of a search: adaptation to all sparsities.
#
# Instead of ..._sparse-package.py, for a sparsity of your own.
#
# Paper:   SPViT, arXiv 2112.13890; adaptation is SparseViT's, arXiv 2303.17605
# Command: python tools/train.py THIS_FILE
# Expect:  no published number; validation is at sparsity 0.
_base_ = './segmenter_pruned-dinov2-s14_fcn_300i_camvid-252x336_sparse-package.py'

model = dict(backbone=dict(sparsity=0.0))

custom_hooks = [
    dict(type='sparsevit_mm.SparsityAdaptationHook', choices=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)),
    dict(type='sparsevit_mm.DistillationHook', teacher='self', kept_only=True),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(252, 336), interval=10),
]
