"""tools/visualize_sparsity.py from the command line to the files, with small models of the three packages."""

from pathlib import Path
from types import ModuleType

import mmcv
import numpy as np
import pytest
from scripts import load_tool

from sparsevit_mm.cli import run_tool

SITES = ('stage1.pair1', 'stage2.pair1', 'stage3.pair1', 'stage4.pair1')

# A stock config each, shrunk until a forward takes a moment.
DETECTOR = """
_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'
model = dict(
    backbone=dict(depths=[2, 1, 1, 1], embed_dims=24, window_size=4, init_cfg=None),
    neck=dict(in_channels=[24, 48, 96, 192]))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(160, 96), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
"""
SEGMENTOR = """
_base_ = 'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'
norm_cfg = dict(type='BN')
model = dict(
    backbone=dict(depths=[2, 1, 1, 1], embed_dims=24, window_size=4, init_cfg=None),
    decode_head=dict(in_channels=[24, 48, 96, 192], channels=16, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=96, channels=16, norm_cfg=norm_cfg))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(160, 96), keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
"""
MONO_3D = """
_base_ = 'mmdet3d::pgd/pgd_r101-caffe_fpn_head-gn_4xb3-4x_kitti-mono3d.py'
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True, type='sparsevit_mm.SparseSwin', depths=[2, 1, 1, 1], embed_dims=24, window_size=4,
        sparsity=(0.5, 0, 0, 0)),
    neck=dict(in_channels=[24, 48, 96, 192]))
"""
CONFIGS = {'mmdet': DETECTOR, 'mmseg': SEGMENTOR, 'mmdet3d': MONO_3D}


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('visualize_sparsity')


def run(tool: ModuleType, argv: list[str]) -> int:
    return run_tool(tool.main, argv)


@pytest.fixture
def config(tmp_path: Path) -> str:
    pytest.importorskip('mmdet')
    (tmp_path / 'config.py').write_text(DETECTOR)
    return str(tmp_path / 'config.py')


@pytest.fixture
def image(tmp_path: Path) -> str:
    folder = tmp_path / 'images'
    noise = np.random.default_rng(0).integers(180, 255, (60, 100, 3), dtype=np.uint8)
    mmcv.imwrite(noise, str(folder / 'a.png'))
    return str(folder / 'a.png')


@pytest.mark.parametrize('package', CONFIGS)
def test_pictures_of_every_package(package: str, tool: ModuleType, tmp_path: Path, image: str, capsys) -> None:
    pytest.importorskip(package)
    (tmp_path / 'config.py').write_text(CONFIGS[package])
    sparsity = [] if package == 'mmdet3d' else ['--sparsity', '.5,0,0,0']
    status = run(tool, [str(tmp_path / 'config.py'), 'none', image, *sparsity, '--out', str(tmp_path / 'out')])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    assert 'RANDOM WEIGHTS' in captured.out
    written = {file.name for file in (tmp_path / 'out' / 'a').iterdir()}
    assert written == {'overview.png', 'heat_map.png', *(f'{site}.png' for site in SITES)}
    pruned, dense = (mmcv.imread(str(tmp_path / 'out' / 'a' / f'{site}.png')) for site in SITES[:2])
    assert pruned.shape == dense.shape
    assert pruned.mean() < dense.mean() - 10  # what is skipped is darkened


def test_folder_checkpoint_and_options(tool: ModuleType, tmp_path: Path, config: str, image: str, capsys) -> None:
    import torch

    from sparsevit_mm.apis import build_model, load_config

    checkpoint = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=build_model(load_config(config)).state_dict()), checkpoint)
    other = tmp_path / 'a.jpg'
    mmcv.imwrite(mmcv.imread(image), str(other))
    options = ['--cfg-options', 'test_dataloader.dataset.pipeline.1.scale=(80,48)']
    arguments = [config, str(checkpoint), str(Path(image).parent), str(other), '--sparsity', '0.3']
    status = run(tool, [*arguments, '--out', str(tmp_path / 'out'), *options])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    assert 'RANDOM' not in captured.out
    assert {folder.name for folder in (tmp_path / 'out').iterdir()} == {'a', 'a_2'}


def test_dense_model_is_pointed_out(tool: ModuleType, tmp_path: Path, config: str, image: str, capsys) -> None:
    assert run(tool, [config, 'none', image, '--sparsity', '0', '--out', str(tmp_path / 'out')]) == 0
    assert 'nothing is skipped' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(sparsity='1.5'), '1.5'),
        (dict(sparsity='.5,0'), '4 sites'),
        (dict(sparsity='half'), 'half'),
        (dict(sparsity=None), 'give --sparsity'),
        (dict(config='missing.py'), 'missing.py'),
        (dict(checkpoint='missing.pth'), 'missing.pth'),
        (dict(image='missing.png'), 'missing.png'),
        (dict(image=__file__), 'cannot be read as an image'),
        (dict(out=f'{__file__}/pictures'), 'test_tools_visualize.py'),
    ],
    ids=['range', 'length', 'words', 'dense config', 'config', 'checkpoint', 'image', 'no image', 'output folder'],
)
def test_mistakes(
    change: dict, message: str, tool: ModuleType, tmp_path: Path, config: str, image: str, capsys
) -> None:
    options = dict(config=config, checkpoint='none', image=image, sparsity='.5', out=str(tmp_path / 'out')) | change
    sparsity = [] if options['sparsity'] is None else ['--sparsity', options['sparsity']]
    status = run(tool, [options['config'], options['checkpoint'], options['image'], *sparsity, '--out', options['out']])
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith('error: ') and message in error
