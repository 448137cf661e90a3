"""tools/visualize_sparsity.py from the command line to the files, with small models of the three packages."""

from pathlib import Path
from types import ModuleType

import cv2
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


HARDLY = ['--score-thr', '0.001']  # random weights are sure of nothing


@pytest.mark.parametrize('package', CONFIGS)
def test_contact_sheet_and_video_of_every_package(
    package: str, tool: ModuleType, tmp_path: Path, image: str, capsys
) -> None:
    pytest.importorskip(package)
    (tmp_path / 'config.py').write_text(CONFIGS[package])
    mmcv.imwrite(mmcv.imread(image)[:, :80], str(Path(image).with_name('b.png')))
    (Path(image).parent / 'c.png').write_text('no image')
    sparsity = [] if package == 'mmdet3d' else ['--sparsity', '.5,0,0,0']
    folder, sheet, video = Path(image).parent, tmp_path / 'new' / 'sheet.png', tmp_path / 'drive.mp4'
    model = [str(tmp_path / 'config.py'), 'none']
    status = run(tool, [*model, str(folder), *sparsity, *HARDLY, '--video', str(video), '--fps', '5'])
    told = capsys.readouterr()
    assert status == 0, told.err
    assert 'c.png cannot be read as an image. It is left out' in told.out and '2 frame(s)' in told.out
    opened = cv2.VideoCapture(str(video))
    assert int(opened.get(cv2.CAP_PROP_FRAME_COUNT)) == 2 and opened.get(cv2.CAP_PROP_FPS) == pytest.approx(5)
    opened.release()
    images = [str(folder / name) for name in ('a.png', 'b.png')]
    status = run(tool, [*model, *images, *sparsity, *HARDLY, '--contact-sheet', str(sheet)])
    told = capsys.readouterr()
    assert status == 0, told.err
    picture = mmcv.imread(str(sheet))
    assert picture.shape[1] > 1000 and picture.shape[0] > 400 and f'2 image(s) -> {sheet}' in told.out


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
        (dict(out=None), 'say what to make: --out DIR, --contact-sheet PNG, --video MP4'),
        (dict(more=['--score-thr', '2']), '--score-thr must be in [0, 1], got 2'),
        (dict(more=['--contact-sheet', 'sheet.jpg']), "--contact-sheet must be a .png file, got 'sheet.jpg'"),
        (dict(more=['--contact-sheet', f'{__file__}/sheet.png']), 'test_tools_visualize.py'),
        (dict(more=['--video', 'drive.gif']), "must end in .mp4 or .avi, got 'drive.gif'"),
        (dict(more=['--video', f'{__file__}/drive.mp4']), 'test_tools_visualize.py'),
        (dict(more=['--video', 'DRIVE', '--fps', '0']), 'fps must be above 0'),
        (dict(more=['--video', 'DRIVE', '--overlay', 'stage9']), "overlay 'stage9' is neither 'heat' nor a site"),
        (dict(out=None, image=__file__, more=['--video', 'DRIVE']), 'none of 1 file(s) is an image'),
        (dict(out=None, image=__file__, more=['--contact-sheet', 'SHEET']), 'cannot be read as an image'),
    ],
    ids=[
        'range',
        'length',
        'words',
        'dense config',
        'config',
        'checkpoint',
        'image',
        'no image',
        'output folder',
        'nothing to make',
        'score',
        'suffix of the sheet',
        'place of the sheet',
        'suffix of the video',
        'place of the video',
        'frames a second',
        'site',
        'nothing to film',
        'sheet of no image',
    ],
)
def test_mistakes(
    change: dict, message: str, tool: ModuleType, tmp_path: Path, config: str, image: str, capsys
) -> None:
    options = (
        dict(config=config, checkpoint='none', image=image, sparsity='.5', out=str(tmp_path / 'out'), more=[]) | change
    )
    argv = [options['config'], options['checkpoint'], options['image']]
    for name in ('sparsity', 'out'):
        argv += [] if options[name] is None else [f'--{name}', options[name]]
    places = dict(DRIVE=str(tmp_path / 'drive.mp4'), SHEET=str(tmp_path / 'sheet.png'))
    status = run(tool, argv + [places.get(word, word) for word in options['more']])
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith('error: ') and message in error
