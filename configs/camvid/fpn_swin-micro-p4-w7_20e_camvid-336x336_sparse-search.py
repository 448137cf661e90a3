# FPN head with a compact Swin on CamVid. Step 3 of 4: search for a sparsity within a budget.
#
# Step 4 is best_config.py of the work dir: it trains at what was found, from CHECKPOINT, by the schedule of step 2.
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/search_sparsity.py THIS_FILE CHECKPOINT
#          (CHECKPOINT is of step 2; that of a dense model searches without training)
# Expect:  no number; report.html and best_config.py in the work dir.
_base_ = './fpn_swin-micro-p4-w7_20e_camvid-336x336_sparse-adapt.py'

custom_hooks = []

test_cfg = dict(type='sparsevit_mm.SparsitySearchLoop', budget=0.65, budget_metric='latency', trials=30)
