# UPerNet with DeiT-S on ADE20K. Step 2 of a search: adaptation to all sparsities.
#
# Instead of ..._sparse-rho70.py, for a sparsity of your own. As many units stay as each draw asks for (draw='topk').
#
# Paper:   DynamicViT, arXiv 2106.02034; adaptation is SparseViT's, arXiv 2303.17605
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no published number; validation is at sparsity 0.
_base_ = './upernet_pruned-deit-s16_160k_ade20k-512x512_sparse-rho70.py'

model = dict(backbone=dict(sparsity=0.0, selector=dict(draw='topk')))

custom_hooks = [
    dict(type='sparsevit_mm.SparsityAdaptationHook', choices=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)),
    dict(type='sparsevit_mm.DistillationHook', teacher='self', kept_only=True),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=6500, by_epoch=False),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(512, 512)),
]
