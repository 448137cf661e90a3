# FCOS3D with Swin-T on nuScenes. Step 3 of 4: search for a sparsity within a budget.
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/search_sparsity.py THIS_FILE CHECKPOINT
#          (CHECKPOINT is of step 2)
# Expect:  no published number; report.md and best_config.py in the work dir.
_base_ = './fcos3d_swin-t-p4-w7_fpn_1x_nus-mono3d.py'

test_cfg = dict(type='sparsevit_mm.SparsitySearchLoop', budget=0.6, budget_metric='latency', trials=200)

# NuScenesMetric scores nothing but the whole official val split; candidates are scored on training images.
val_evaluator = dict(_delete_=True, type='sparsevit_mm.CenterDistanceMetric')
