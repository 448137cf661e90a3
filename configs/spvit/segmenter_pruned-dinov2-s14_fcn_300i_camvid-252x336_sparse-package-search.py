# Segmenter's linear head on a DINOv2 ViT-S/14, on CamVid. Step 3 of a search: a sparsity within a budget.
#
# Step 4 is best_config.py of the work dir: it trains at what was found, from CHECKPOINT, with the hooks below.
#
# Paper:   SPViT, arXiv 2112.13890; the search is SparseViT's, arXiv 2303.17605
# Command: python tools/search_sparsity.py THIS_FILE CHECKPOINT
#          (CHECKPOINT is of step 2)
# Expect:  no published number; report.html and best_config.py in the work dir.
_base_ = './segmenter_pruned-dinov2-s14_fcn_300i_camvid-252x336_sparse-package-adapt.py'

custom_hooks = [
    dict(type='sparsevit_mm.DistillationHook', teacher='self', kept_only=True),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(252, 336), interval=10),
]

test_cfg = dict(type='sparsevit_mm.SparsitySearchLoop', budget=0.7, budget_metric='latency', trials=30)
