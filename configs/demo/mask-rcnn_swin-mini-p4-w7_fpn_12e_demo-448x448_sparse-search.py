# Mask R-CNN with a small Swin on the embedded demo set. Step 3 of 4: search for a sparsity within a budget.
#
# Paper:   SparseViT, arXiv 2303.17605
# Command: python tools/search_sparsity.py THIS_FILE CHECKPOINT
#          (CHECKPOINT is of step 2)
# Expect:  no number: only tried for a few steps.
_base_ = './mask-rcnn_swin-mini-p4-w7_fpn_12e_demo-448x448.py'

test_cfg = dict(type='sparsevit_mm.SparsitySearchLoop', budget=0.6, trials=40, search_images=40)
