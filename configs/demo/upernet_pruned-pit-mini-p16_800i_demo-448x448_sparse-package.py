# UPerNet with a small PiT on the embedded demo set. Step 2: training with package tokens at fixed keep ratios.
#
# Half of the tokens stay from the middle of each stage on, an example: the paper's are not published. Decisions are
# free in training (draw='gumbel').
# The teacher is compared by its features where tokens were kept, and by its logits.
#
# Paper:   SPViT, arXiv 2112.13890; length and learning rate are ours
# Command: python tools/train.py THIS_FILE
# Expect:  no number: only tried for a few steps.
_base_ = ['./upernet_pruned-pit-mini-p16_800i_demo-448x448.py', '../_base_/spvit/pruned-pit.py']

load_from = 'work_dirs/upernet_pruned-pit-mini-p16_800i_demo-448x448/iter_800.pth'

model = dict(
    data_preprocessor=dict(size=(448, 448)),
    backbone=dict(
        sparsity=(0.5, 0.5, 0.5),
        selector=dict(type='sparsevit_mm.MultiHeadSelector', draw='gumbel'),
    ),
)

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=2.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self', kept_only=True),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=50, by_epoch=False),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(448, 448), interval=10),
]

train_dataloader = dict(batch_size=2, dataset=dict(pipeline=_base_.whole_pipeline))

max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=0, end=max_iters)]
optim_wrapper = dict(optimizer=dict(lr=0.001), paramwise_cfg=dict(custom_keys=_base_.rates))
