# UPerNet with a DINOv2 ViT-S/14 and a narrow head on CamVid. Step 2 of a search: adaptation to all sparsities.
#
# Instead of ..._sparse-rho70.py, for a sparsity of your own. As many units stay as each draw asks for (draw='topk').
#
# Paper:   DynamicViT, arXiv 2106.02034; adaptation is SparseViT's, arXiv 2303.17605
# Command: python tools/train.py THIS_FILE
# Expect:  no published number; validation is at sparsity 0.
_base_ = './upernet_pruned-dinov2-s14_2k_camvid-360x480_sparse-rho70.py'

model = dict(backbone=dict(sparsity=0.0, selector=dict(draw='topk')))

custom_hooks = [
    dict(type='sparsevit_mm.SparsityAdaptationHook', choices=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)),
    dict(type='sparsevit_mm.DistillationHook', teacher='self', feature_weight=0.0),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=170, by_epoch=False),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(360, 480), interval=10),
]
