# Mask R-CNN with a small Swin on the embedded demo set. Step 3 of 4: search for a sparsity within a budget.
#
# Step 4 is best_config.py of the work dir: it trains at what was found, from CHECKPOINT, by the schedule of step 2.
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/search_sparsity.py THIS_FILE CHECKPOINT
#          (CHECKPOINT is of step 2; that of a dense model searches without training)
# Expect:  no number: only tried for a few steps.
_base_ = './mask-rcnn_swin-mini-p4-w7_fpn_12e_demo-448x448_sparse-adapt.py'

custom_hooks = []

test_cfg = dict(type='sparsevit_mm.SparsitySearchLoop', budget=0.6, trials=40, search_images=40)
