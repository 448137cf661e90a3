# Segmenter's linear head on a DINOv2 ViT-S/14, on CamVid. Step 2: training with package tokens at fixed keep ratios.
#
# 0.7, 0.39 and 0.21 of the tokens stay from three places on, as with DeiT-S on ADE20K. For so few steps the recipe is
# not the published one: as many tokens stay as are asked for (draw='topk'), without noise, selectors learn faster and
# the backbone is not frozen. Dropped tokens keep their last features in the map (unfold='reuse'): what packages learn
# in so few steps does them no good, see docs/spvit.md.
# Step 1 is segmenter_pruned-dinov2-s14_fcn_300i_camvid-252x336.py of ../dynamicvit.
#
# Paper:   SPViT, arXiv 2112.13890; length and rates are ours
# Command: python tools/train.py THIS_FILE
# Expect:  see README.md beside this file.
_base_ = ['../dynamicvit/segmenter_pruned-dinov2-s14_fcn_300i_camvid-252x336.py', '../_base_/spvit/pruned-vit.py']

load_from = 'work_dirs/segmenter_pruned-dinov2-s14_fcn_300i_camvid-252x336/iter_300.pth'

model = dict(
    backbone=dict(
        bypass='package',
        unfold='reuse',
        sparsity=_base_.package_model.backbone.sparsity,
        selector=dict(type='sparsevit_mm.MultiHeadSelector', noise=0),
    ),
)

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=10.0),
    dict(type='sparsevit_mm.DistillationHook', teacher='self', kept_only=True),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(252, 336), interval=10),
]

max_iters = 150
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=10),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=10, end=max_iters),
]

short_rates = {
    'backbone': dict(lr_mult=0.1),
    'selectors.': dict(lr_mult=2.0),
    'pos_embed': dict(lr_mult=0.1, decay_mult=0.0),
    'cls_token': dict(lr_mult=0.1, decay_mult=0.0),
}
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=short_rates))
