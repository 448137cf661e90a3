# Mask R-CNN with Swin-T on COCO at 672x672. Step 3 of 4: search for a sparsity within a budget.
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/search_sparsity.py THIS_FILE CHECKPOINT
#          (CHECKPOINT is of step 2)
# Expect:  no published number; report.md and best_config.py in the work dir.
_base_ = './mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco-672x672.py'

test_cfg = dict(type='sparsevit_mm.SparsitySearchLoop', budget=0.6, budget_metric='latency', trials=200)
