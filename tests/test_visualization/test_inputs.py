from pathlib import Path
from types import SimpleNamespace

import mmcv
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS

from sparsevit_mm.apis import init_scope
from sparsevit_mm.visualization import ImageReader

STOCK = {
    'detector': ('mmdet', 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'),
    'segmentor': ('mmseg', 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'),
    'mono3d on KITTI': ('mmdet3d', 'pgd/pgd_r101-caffe_fpn_head-gn_4xb3-4x_kitti-mono3d.py'),
    'mono3d on nuScenes': ('mmdet3d', 'fcos3d/fcos3d_r101-caffe-dcn_fpn_head-gn_8xb2-1x_nus-mono3d.py'),
}


def reader_of(package: str, name: str) -> tuple[ImageReader, Config]:
    from mmengine.hub import get_config

    pytest.importorskip(package)
    cfg = get_config(f'{package}::{name}')
    init_scope(cfg)
    return ImageReader(cfg, SimpleNamespace(data_preprocessor=MODELS.build(cfg.model.data_preprocessor))), cfg


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """90 x 121 pixels, red at the left and blue at the right, with some noise."""
    image = np.random.default_rng(0).integers(0, 60, (90, 121, 3), dtype=np.uint8)
    image[:, :60, 0] = 255
    image[:, 60:, 2] = 255
    mmcv.imwrite(image[..., ::-1].copy(), str(tmp_path / 'photograph.png'))
    return tmp_path / 'photograph.png'


@pytest.mark.parametrize('family', STOCK)
def test_picture_is_what_the_network_sees(family: str, photograph: Path) -> None:
    reader, cfg = reader_of(*STOCK[family])
    item = reader(photograph)
    height, width = item.picture.shape[:2]
    assert item.picture.dtype == np.uint8
    assert width / height == pytest.approx(121 / 90, rel=0.02)
    assert item.tensor.shape[:2] == (1, 3) and item.size[0] >= height and item.size[1] >= width
    assert item.picture[:, : width // 3, 0].min() > 150 > item.picture[:, : width // 3, 2].max()  # RGB
    how = cfg.model.data_preprocessor
    seen = item.tensor[0, :, :height, :width].numpy().transpose(1, 2, 0) * how.std + how.mean
    assert np.abs((seen if how.bgr_to_rgb else seen[..., ::-1]) - item.picture).max() < 0.01
    assert not item.tensor[0, :, height:].any() and not item.tensor[0, :, :, width:].any()


@pytest.mark.parametrize('style', ['names', 'classes'])
def test_annotations_are_left_out_and_wrapped_sets_found(style: str, photograph: Path) -> None:
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='mmdet.PackDetInputs')]
    if style == 'classes':  # as configs that import what they name have them
        init_scope(Config(dict(default_scope='mmdet')))
        steps = [dict(type=TRANSFORMS.get(step['type'])) for step in steps]
    cfg = Config(
        dict(
            default_scope='mmdet',
            test_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dict(type='CocoDataset', pipeline=steps))),
        )
    )
    init_scope(cfg)
    model = SimpleNamespace(data_preprocessor=MODELS.build(dict(type='mmdet.DetDataPreprocessor')))
    assert ImageReader(cfg, model)(photograph).picture.shape == (90, 121, 3)
    assert len(steps) == 3  # the config is left as it is


def test_config_without_test_pipeline() -> None:
    for cfg in (Config(dict()), Config(dict(test_dataloader=None)), Config(dict(test_dataloader=dict(dataset=dict())))):
        with pytest.raises(ValueError, match='no test pipeline'):
            ImageReader(cfg, SimpleNamespace(data_preprocessor=None))


def test_files_that_are_no_images(tmp_path: Path) -> None:
    reader, _ = reader_of(*STOCK['detector'])
    broken = tmp_path / 'broken.jpg'
    for content in (b'', b'not a picture'):
        broken.write_bytes(content)
        with pytest.raises(ValueError, match=r'broken\.jpg cannot be read as an image'):
            reader(broken)
    with pytest.raises(ValueError, match=r'no image .*missing\.jpg'):
        reader(tmp_path / 'missing.jpg')
