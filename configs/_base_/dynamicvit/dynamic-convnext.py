# DynamicConvNeXt: new parts learn at the full rate, the pretrained backbone at 0.2 of it (arXiv 2207.01580), instead
# of the decay over layers of the dense training.
# custom_keys of an optimizer. Of the keys that a name contains the longest counts, of two as long the first in the
# alphabet. Use it as a second base:
#     optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
rates = {
    'stages': dict(lr_mult=0.2),
    'downsample_layers': dict(lr_mult=0.2),
    '.norm.': dict(lr_mult=0.2, decay_mult=0.0),
    '.gamma': dict(lr_mult=0.2, decay_mult=0.0),
    'backbone.norm': dict(lr_mult=0.2, decay_mult=0.0),
    'selectors.': dict(lr_mult=1.0),
    '.fast.': dict(lr_mult=1.0),
    '.fast.gamma': dict(lr_mult=1.0, decay_mult=0.0),
}

# The published rho = 0.7, with free decisions in training. Use it as
#     model = _base_.rho70_model
rho70_model = dict(
    backbone=dict(
        sparsity=(0.3, 0.5, 0.7),
        selector=dict(type='sparsevit_mm.PredictorSelector', draw='gumbel'),
    ),
)
