# UPerNet with DeiT-S on ADE20K. Step 2: training with package tokens, as many tokens of an image as it needs.
#
# Instead of ..._sparse-package.py. Each token that is more likely to stay than not stays, in evaluation too, so images
# differ in what they cost; the keep ratios of 0.7, 0.39 and 0.21 are those of the mean over a batch.
#
# Paper:   SPViT, arXiv 2112.13890; length and learning rate are ours
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no number of ours or published; dense mIoU 42.87 (mmseg).
_base_ = './upernet_pruned-deit-s16_160k_ade20k-512x512_sparse-package.py'

model = dict(backbone=dict(counts='adaptive'))

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=2.0, reduction='batch'),
    dict(type='sparsevit_mm.DistillationHook', teacher='self', kept_only=True),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=6667, by_epoch=False),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(512, 512)),
]
