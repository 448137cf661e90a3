# ConvNeXt-T in the place of mmpretrain's, with its weights. Use it as a second base:
#     model = _base_.convnext_t_model
convnext_t_model = dict(
    backbone=dict(
        _delete_=True,
        type='sparsevit_mm.DynamicConvNeXt',
        arch='tiny',
        drop_path_rate=0.4,
        layer_scale_init_value=1.0,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmclassification/v0/convnext/downstream/convnext-tiny_3rdparty_32xb128-noema_in1k_20220301-795e9634.pth',
            prefix='backbone.',
        ),
    ),
)
