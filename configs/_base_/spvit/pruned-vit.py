# SPViT in a plain ViT: new parts learn at the full rate, the pretrained backbone at 0.01 of it (arXiv 2112.13890).
# custom_keys of an optimizer. Of the keys that a name contains the longest counts, of two as long the first in the
# alphabet. Use it as a second base:
#     optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.rates))
rates = {
    'backbone': dict(lr_mult=0.01),
    'selectors.': dict(lr_mult=1.0),
    'pos_embed': dict(lr_mult=0.01, decay_mult=0.0),
    'cls_token': dict(lr_mult=0.01, decay_mult=0.0),
}

# The paper's DeiT-S counts 2.65 GMACs. The released code asks for keep ratios of .617, .369 and .137, which would be
# less; its logs end at .711, .445 and .214, which is about that, and is what stays here. Decisions are free in
# training. Use it as
#     model = _base_.package_model
package_model = dict(
    backbone=dict(
        bypass='package',
        sparsity=(0.3, 0.61, 0.79),
        selector=dict(type='sparsevit_mm.MultiHeadSelector', draw='gumbel'),
    ),
)
