# SPViT in a Swin: new parts learn at the full rate, the pretrained backbone at 0.01 of it (arXiv 2112.13890).
# custom_keys of an optimizer. Of the keys that a name contains the longest counts, of two as long the first in the
# alphabet. Use it as a second base:
#     optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
rates = {
    'stages': dict(lr_mult=0.01),
    'patch_embed': dict(lr_mult=0.01),
    'relative_position_bias_table': dict(lr_mult=0.01, decay_mult=0.0),
    '.norm1.': dict(lr_mult=0.01, decay_mult=0.0),
    '.norm2.': dict(lr_mult=0.01, decay_mult=0.0),
    'downsample.norm': dict(lr_mult=0.01, decay_mult=0.0),
    'patch_embed.norm': dict(lr_mult=0.01, decay_mult=0.0),
    'backbone.norm': dict(lr_mult=0.01, decay_mult=0.0),
    'selector.': dict(lr_mult=1.0),
}

# An example for a Swin-T: the ratios of the paper's Swin are not published, but its selectors are in stages 2 to 4.
# As many windows stay in training as in evaluation (draw='topk', the default). Use it as
#     model = _base_.package_model
package_model = dict(
    backbone=dict(
        bypass='package',
        sparsity=(0.0, 0.3, 0.5, 0.5, 0.5, 0.3),
        selector=dict(type='sparsevit_mm.MultiHeadSelector'),
    ),
)
