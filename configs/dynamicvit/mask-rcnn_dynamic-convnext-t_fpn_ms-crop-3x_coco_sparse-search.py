# Mask R-CNN with DynamicConvNeXt-T on COCO. Step 3 of a search: a sparsity within a budget.
#
# Step 4 is best_config.py of the work dir: it trains at what was found, from CHECKPOINT, with the hooks below.
#
# Paper:   dynamic spatial sparsification, arXiv 2207.01580; the search is SparseViT's, arXiv 2303.17605
# Command: python tools/search_sparsity.py THIS_FILE CHECKPOINT
#          (CHECKPOINT is of step 2)
# Expect:  no published number; report.html and best_config.py in the work dir.
_base_ = './mask-rcnn_dynamic-convnext-t_fpn_ms-crop-3x_coco_sparse-adapt.py'

custom_hooks = [
    dict(type='sparsevit_mm.DistillationHook', teacher='self'),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(800, 1344)),
]

# Most candidates are given up after a quarter or a half of the images.
test_cfg = dict(
    type='sparsevit_mm.SparsitySearchLoop', budget=0.8, budget_metric='latency', trials=200, rungs=(0.25, 0.5)
)
