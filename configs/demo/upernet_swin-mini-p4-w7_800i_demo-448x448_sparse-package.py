# UPerNet with a small Swin on the embedded demo set. Step 2, without a search: windows left out go on as a package.
#
# The sparsity and the training are those of ..._sparse-learned.py, whose windows pass unchanged: the two differ in the
# selector and in the bypass. Without noise (noise=0) a selector learns within a few hundred steps.
#
# Paper:   SPViT, arXiv 2112.13890; length and rates are ours
# Command: python tools/train.py THIS_FILE
# Expect:  no number: only tried for a few steps.
_base_ = './upernet_swin-mini-p4-w7_800i_demo-448x448_sparse-learned.py'

model = dict(
    backbone=dict(bypass='package', selector=dict(_delete_=True, type='sparsevit_mm.MultiHeadSelector', noise=0)),
)
