# Segmenter's linear head on a DINOv2 ViT-S/14, on CamVid. Step 2: training with package tokens, to a latency.
#
# Instead of ..._sparse-package.py, for keep ratios of your own: before training starts they are fitted by a table of
# what every site takes on your device, so that the backbone takes 0.6 of its dense latency (latency-aware training).
# Measure the table first:
#
#     python tools/latency_table.py THIS_FILE --shape 252 336 --check 10 \
#         --out work_dirs/latency_tables/segmenter_pruned-dinov2-s14_252x336.json
#
# What was fitted is in fitted_config.py of the work dir: test with that.
#
# Paper:   SPViT, arXiv 2112.13890; length and rates are ours
# Command: python tools/train.py THIS_FILE
# Expect:  see README.md beside this file.
_base_ = './segmenter_pruned-dinov2-s14_fcn_300i_camvid-252x336_sparse-package.py'

custom_hooks = [
    dict(
        type='sparsevit_mm.KeepRatioLossHook',
        weight=10.0,
        target='budget',
        budget=0.6,
        table='work_dirs/latency_tables/segmenter_pruned-dinov2-s14_252x336.json',
    ),
    dict(type='sparsevit_mm.DistillationHook', teacher='self', kept_only=True),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(252, 336), interval=10),
]
