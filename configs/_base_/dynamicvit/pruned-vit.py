# PrunedViT: new parts learn at the full rate, the pretrained backbone at 0.01 of it (DynamicViT, arXiv 2106.02034).
# custom_keys of an optimizer. Of the keys that a name contains the longest counts, of two as long the first in the
# alphabet. Use it as a second base:
#     optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
rates = {
    'backbone': dict(lr_mult=0.01),
    'selectors.': dict(lr_mult=1.0),
    'pos_embed': dict(lr_mult=0.01, decay_mult=0.0),
    'cls_token': dict(lr_mult=0.01, decay_mult=0.0),
}

# The published rho = 0.7, with free decisions in training. Use it as
#     model = _base_.rho70_model
rho70_model = dict(
    backbone=dict(
        sparsity=(0.3, 0.51, 0.657),
        selector=dict(type='sparsevit_mm.PredictorSelector', draw='gumbel'),
    ),
)
