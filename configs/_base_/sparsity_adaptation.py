# Sparsity-aware adaptation (SparseViT, arXiv 2303.17605): every training iteration runs at a sparsity drawn from
# these choices, one a site and never decreasing within a stage. Use it as a second base beside a dense config,
# which must not set custom_hooks itself.
custom_hooks = [
    dict(type='sparsevit_mm.SparsityAdaptationHook', choices=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)),
]
