# UPerNet with DeiT-S on ADE20K. Step 1: dense.
#
# Paper:   DeiT, arXiv 2012.12877; UPerNet, arXiv 1807.10221
# Command: bash tools/dist_train.sh THIS_FILE 8
# Expect:  mIoU 42.87 (mmseg). mmseg's own checkpoint of the base config saves this step.
_base_ = 'mmseg::vit/vit_deit-s16_upernet_8xb2-160k_ade20k-512x512.py'
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)

model = dict(
    pretrained=None,
    backbone=dict(
        type='sparsevit_mm.PrunedViT',
        # DeiT's patch embedding has one, and so had mmseg's ViT when its checkpoints were made.
        patch_bias=True,
        init_cfg=dict(
            type='Pretrained', checkpoint='https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth'
        ),
    ),
)

# The base config says 160k in its name and stops after 80k.
train_cfg = dict(max_iters=160000, val_interval=16000)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160000),
]
default_hooks = dict(checkpoint=dict(interval=16000))
