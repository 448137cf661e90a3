# SPViT in a PiT: new parts learn at the full rate, the pretrained backbone at 0.01 of it (arXiv 2112.13890).
# custom_keys of an optimizer. Of the keys that a name contains the longest counts, of two as long the first in the
# alphabet. Use it as a second base:
#     optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
rates = {
    'backbone': dict(lr_mult=0.01),
    'selectors.': dict(lr_mult=1.0),
    'pos_embed': dict(lr_mult=0.01, decay_mult=0.0),
    'cls_token': dict(lr_mult=0.01, decay_mult=0.0),
}

# An example: the ratios of the paper's PiT are not published. One site is in stages 1 and 3 each, two are in stage 2;
# a stage starts with all of its tokens. Decisions are free in training. Use it as
#     model = _base_.package_model
package_model = dict(
    backbone=dict(
        bypass='package',
        sparsity=(0.3, 0.3, 0.6, 0.5),
        selector=dict(type='sparsevit_mm.MultiHeadSelector', draw='gumbel'),
    ),
)
