# DynamicSwin: new parts learn at the full rate, the pretrained backbone at 0.2 of it (arXiv 2207.01580).
# custom_keys of an optimizer. Of the keys that a name contains the longest counts, of two as long the first in the
# alphabet. Use it as a second base:
#     optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
rates = {
    'stages': dict(lr_mult=0.2),
    'patch_embed': dict(lr_mult=0.2),
    'relative_position_bias_table': dict(lr_mult=0.2, decay_mult=0.0),
    '.norm1.': dict(lr_mult=0.2, decay_mult=0.0),
    '.norm2.': dict(lr_mult=0.2, decay_mult=0.0),
    'downsample.norm': dict(lr_mult=0.2, decay_mult=0.0),
    'patch_embed.norm': dict(lr_mult=0.2, decay_mult=0.0),
    'backbone.norm': dict(lr_mult=0.2, decay_mult=0.0),
    'selectors.': dict(lr_mult=1.0),
    '.fast.': dict(lr_mult=1.0),
}

# The published rho = 0.7, with free decisions in training. Use it as
#     model = _base_.rho70_model
rho70_model = dict(
    backbone=dict(
        type='sparsevit_mm.DynamicSwin',
        sparsity=(0.3, 0.5, 0.7),
        selector=dict(type='sparsevit_mm.PredictorSelector', draw='gumbel'),
    ),
)
