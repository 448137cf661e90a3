# UPerNet with DeiT-S on ADE20K. Step 2: training with package tokens, to a latency.
#
# Instead of ..._sparse-package.py, for keep ratios of your own: before training starts they are fitted by a table of
# what every site takes on your device, so that the backbone takes 0.6 of its dense latency (latency-aware training).
# Measure the table first:
#
#     python tools/latency_table.py THIS_FILE --shape 512 512 --device cuda --check 10 \
#         --out work_dirs/latency_tables/upernet_pruned-deit-s16_512x512.json
#
# What was fitted is in fitted_config.py of the work dir: test with that.
#
# Paper:   SPViT, arXiv 2112.13890; length and learning rate are ours
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  no number of ours or published; dense mIoU 42.87 (mmseg).
_base_ = './upernet_pruned-deit-s16_160k_ade20k-512x512_sparse-package.py'

custom_hooks = [
    dict(
        type='sparsevit_mm.KeepRatioLossHook',
        weight=2.0,
        target='budget',
        budget=0.6,
        table='work_dirs/latency_tables/upernet_pruned-deit-s16_512x512.json',
    ),
    dict(type='sparsevit_mm.DistillationHook', teacher='self', kept_only=True),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=6667, by_epoch=False),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(512, 512)),
]
