# DeiT-T on ImageNet, in mmpretrain. Step 2: training with package tokens at fixed keep ratios.
#
# 0.8, 0.6 and 0.4 of the tokens stay from three places on, an example that saves 30% of the MACs: the paper's ratios
# for DeiT-T are not published.
# Step 1 is that of mmpretrain, whose weights are taken, for the teacher too: its last map is compared where tokens were
# kept. Its prediction, which the paper compares as well, is not.
#
# Paper:   SPViT, arXiv 2112.13890; epochs, rates and batch size are the published ones
# Command: bash tools/dist_train.sh THIS_FILE 4
# Expect:  no number of ours; dense top-1 74.50 (mmpretrain).
_base_ = ['mmpretrain::deit/deit-tiny_4xb256_in1k.py', '../_base_/spvit/pruned-vit.py']
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)

checkpoint = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-tiny_pt-4xb256_in1k_20220218-13b382a0.pth'

# Not by load_from: mmpretrain has other names for the weights of attention, which init_cfg of the backbone knows.
model = dict(
    backbone=dict(
        _delete_=True,
        type='sparsevit_mm.PrunedViT',
        img_size=224,
        patch_size=16,
        patch_bias=True,
        embed_dims=192,
        num_heads=3,
        norm_cfg=dict(type='LN', eps=1e-6),
        final_norm=True,
        output_cls_token=True,
        bypass='package',
        sparsity=(0.2, 0.4, 0.6),
        selector=dict(type='sparsevit_mm.MultiHeadSelector', draw='gumbel'),
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.'),
    ),
    head=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='head.')),
)
teacher = dict(
    config=dict(
        default_scope='mmpretrain',
        model=dict(
            type='ImageClassifier',
            backbone=dict(type='VisionTransformer', arch='deit-tiny', img_size=224, patch_size=16, out_type='featmap'),
            head=dict(type='VisionTransformerClsHead', num_classes=1000, in_channels=192),
        ),
    ),
    checkpoint=checkpoint,
)

custom_hooks = [
    dict(type='sparsevit_mm.KeepRatioLossHook', weight=2.0),
    dict(type='sparsevit_mm.DistillationHook', teacher=teacher, kept_only=True),
    dict(type='sparsevit_mm.BackboneFreezeHook', duration=5),
    dict(type='sparsevit_mm.SparsityLogHook', shape=(224, 224)),
]

train_cfg = dict(max_epochs=30)
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=0, end=30)]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(_delete_=True, **_base_.rates)))
