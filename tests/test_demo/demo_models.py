"""Small models of the three packages that a demo shows in moments, as config files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SITES = ('stage1.pair1', 'stage2.pair1', 'stage3.pair1', 'stage3.pair2', 'stage4.pair1')
BACKBONE = 'depths=[2, 2, 4, 1], embed_dims=24, window_size=4, init_cfg=None'
CHANNELS = '[24, 48, 96, 192]'

DETECTOR = f"""
_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'
model = dict(backbone=dict({BACKBONE}), neck=dict(in_channels={CHANNELS}),
    roi_head=dict(bbox_head=dict(fc_out_channels=64), mask_head=dict(num_convs=1)),
    test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=6)))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(160, 96), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
"""
SEGMENTOR = f"""
_base_ = 'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'
norm_cfg = dict(type='BN')
model = dict(
    backbone=dict({BACKBONE}),
    decode_head=dict(in_channels={CHANNELS}, channels=16, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=96, channels=16, norm_cfg=norm_cfg))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(160, 96), keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
"""
MONO_3D = f"""
_base_ = 'mmdet3d::pgd/pgd_r101-caffe_fpn_head-gn_4xb3-4x_kitti-mono3d.py'
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)
model = dict(
    backbone=dict(_delete_=True, type='sparsevit_mm.SparseSwin', {BACKBONE}),
    neck=dict(in_channels={CHANNELS}),
    bbox_head=dict(dcn_on_last_conv=False, stacked_convs=1))
test_pipeline = [
    dict(type='LoadImageFromFileMono3D'),
    dict(type='mmdet.Resize', scale=(160, 96), keep_ratio=True),
    dict(type='Pack3DDetInputs', keys=['img']),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
"""
# Plain ViT of ours whose selectors decide for each image.
ADAPTIVE = """
_base_ = 'mmseg::vit/vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512.py'
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)
norm_cfg = dict(type='BN')
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(96, 160)),
    backbone=dict(
        _delete_=True, type='sparsevit_mm.PrunedViT', img_size=(96, 160), patch_size=16, embed_dims=48, num_heads=3,
        num_layers=8, site_blocks=(2, 5), out_indices=(1, 3, 5, 7), sparsity=(0.3, 0.5), bypass='package',
        counts='adaptive', selector=dict(type='sparsevit_mm.MultiHeadSelector', draw='batch')),
    neck=dict(in_channels=[48, 48, 48, 48], out_channels=48),
    decode_head=dict(in_channels=[48, 48, 48, 48], channels=16, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=48, channels=16, norm_cfg=norm_cfg))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(160, 96), keep_ratio=True),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
"""
PACKAGES = {'mmdet': DETECTOR, 'mmseg': SEGMENTOR, 'mmdet3d': MONO_3D}


def write_config(folder: Path, text: str) -> str:
    """A config file, where the package that it inherits from is installed."""
    pytest.importorskip(text.partition("'")[2].partition('::')[0])
    (folder / 'config.py').write_text(text)
    return str(folder / 'config.py')


def write_picture(path: Path, size: tuple[int, int] = (200, 120), seed: int = 0) -> Path:
    """Coarse noise that a selector finds more in on the left than on the right."""
    noise = np.random.default_rng(seed).integers(0, 255, (12, 20, 3), dtype=np.uint8)
    noise[:, 10:] = 128
    Image.fromarray(noise).resize(size).save(path)
    return path
