# PiT-S in the place of a Swin, with the weights of its authors as timm publishes them (ImageNet top-1 80.9). Use it as
# a second base:
#     model = dict(backbone=_base_.pit_s, **_base_.pit_s_upernet)  # or **_base_.pit_s_mask_rcnn
#     optim_wrapper = dict(paramwise_cfg=_base_.pit_s_rates)
pit_s = dict(
    _delete_=True,
    type='sparsevit_mm.PrunedPiT',
    arch='s',
    drop_path_rate=0.1,
    init_cfg=dict(
        type='Pretrained',
        checkpoint='https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-pit-weights/pit_s_809.pth',
    ),
)

# Three maps of strides 8, 16 and 32, where a Swin has four from 4 on.
pit_s_upernet = dict(
    decode_head=dict(in_channels=[144, 288, 576], in_index=[0, 1, 2]),
    auxiliary_head=dict(in_channels=288, in_index=1),
)
# Anchors of the stock sizes, 32 to 512 pixels, and RoIs on the stock strides, those of stride 4 on that of 8.
pit_s_mask_rcnn = dict(
    neck=dict(in_channels=[144, 288, 576]),
    rpn_head=dict(anchor_generator=dict(scales=[4], strides=[8, 16, 32, 64, 128])),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=[8, 16, 32], finest_scale=112),
        mask_roi_extractor=dict(featmap_strides=[8, 16, 32], finest_scale=112),
    ),
)

pit_s_rates = dict(
    _delete_=True,
    norm_decay_mult=0.0,
    custom_keys={'pos_embed': dict(decay_mult=0.0), 'cls_token': dict(decay_mult=0.0)},
)
