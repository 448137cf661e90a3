# UPerNet with DeiT-S on ADE20K. Step 2: training with package tokens, one selector after another.
#
# Instead of ..._sparse-package.py, to the same keep ratios. The selector before block 9 is switched on at once, that
# before block 6 after a sixth of the training and that before block 3 after another (layer-to-phase training).
# phases=dict(tolerance=0.5, metric='mIoU') instead finds out how much each may leave out, as the paper does.
#
# Paper:   SPViT, arXiv 2112.13890; lengths and learning rate are ours
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no number of ours or published; dense mIoU 42.87 (mmseg).
_base_ = './upernet_pruned-deit-s16_160k_ade20k-512x512_sparse-package.py'

custom_hooks = [
    dict(type='sparsevit_mm.SparsityScheduleHook', phases=dict(length=6667)),
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=2.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self', kept_only=True),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=6667, by_epoch=False),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(512, 512)),
]
