"""tools/train.py and tools/test.py on a tiny stock segmentor, and what they say when something is wrong."""

import os
import pickle
import socket
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scripts import load_tool

from sparsevit_mm.cli import run_tool
from sparsevit_mm.models.checkpoints import read_checkpoint

ROOT = Path(__file__).parents[1]
pytest.importorskip('mmseg')

CONFIG = """
default_scope = 'mmseg'
data_root = '{data}'
crop = (32, 32)
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        metainfo=dict(classes=('dark', 'light'), palette=[[0, 0, 0], [255, 255, 255]]),
        img_suffix='.png',
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        pipeline=[*load, dict(type='RandomCrop', crop_size=crop), dict(type='PackSegInputs')],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        metainfo=dict(classes=('dark', 'light'), palette=[[0, 0, 0], [255, 255, 255]]),
        img_suffix='.png',
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        pipeline=[*load, dict(type='PackSegInputs')],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='RandomFlip', prob=0.0, direction='horizontal'), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[128] * 3, std=[64] * 3, size=crop, seg_pad_val=255),
    backbone=dict(
        type='SwinTransformer',
        embed_dims=8,
        depths=(2, 2),
        num_heads=(1, 2),
        strides=(4, 2),
        window_size=4,
        out_indices=(1,),
        init_cfg=dict(type='Pretrained', checkpoint='{pretrained}'),
    ),
    decode_head=dict(
        type='FCNHead',
        in_channels=16,
        in_index=0,
        channels=8,
        num_convs=1,
        concat_input=False,
        num_classes=2,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
auto_scale_lr = dict(enable=False, base_batch_size=4)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=4, val_interval=4)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
    visualization=dict(type='SegVisualizationHook'),
)
log_processor = dict(by_epoch=False)
log_level = 'WARNING'
"""


def tool(name):
    module = load_tool(name)
    return lambda *argv: run_tool(module.main, list(map(str, argv)))


train, evaluate = tool('train'), tool('test')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    rng = np.random.default_rng(0)
    for folder in ('images', 'labels'):
        (root / folder).mkdir()
    for i in range(4):
        label = (rng.random((5, 5)) > 0.5).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        cv2.imwrite(str(root / 'labels' / f'{i}.png'), label)
        cv2.imwrite(str(root / 'images' / f'{i}.png'), np.repeat(label[..., None] * 200, 3, -1))
    return root


@pytest.fixture(scope='module')
def config(data):
    """A stock config; without tools that clear its ``init_cfg`` it would look for a file that is not there."""
    path = data / 'tiny.py'
    path.write_text(CONFIG.format(data=data, pretrained='none.pth').replace("'none.pth'", 'None'))
    path.write_text(path.read_text().replace("init_cfg=dict(type='Pretrained', checkpoint=None)", 'init_cfg=None'))
    return path


@pytest.fixture(scope='module')
def trained(config, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('trained')
    assert train(config, '--work-dir', work_dir) == 0
    return work_dir / 'iter_4.pth'


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_train_writes_checkpoints_and_resumes(config, trained, tmp_path):
    loaded = read_checkpoint(trained)
    assert loaded['meta']['iter'] == 4
    assert train(config, '--work-dir', tmp_path, '--resume', trained.parent / 'iter_2.pth') == 0
    assert read_checkpoint(tmp_path / 'iter_4.pth')['meta']['iter'] == 4
    assert not (tmp_path / 'iter_2.pth').exists()
    assert train(config, '--work-dir', tmp_path, '--resume', '--cfg-options', 'train_cfg.max_iters=6') == 0
    assert (tmp_path / 'iter_6.pth').exists()


def test_sparse_backbone_by_options_and_amp_on_this_device(config, tmp_path):
    options = ['model.backbone.type=sparsevit_mm.SparseSwin', 'model.backbone.sparsity=0.5']
    assert train(config, '--work-dir', tmp_path, '--amp', '--auto-scale-lr', '--cfg-options', *options) == 0
    dumped = next(tmp_path.glob('*.py')).read_text()
    wrapper = 'AmpOptimWrapper' if torch.cuda.is_available() else 'sparsevit_mm.BFloat16OptimWrapper'
    assert wrapper in dumped and 'SparseSwin' in dumped
    state = read_checkpoint(tmp_path / 'iter_4.pth')['state_dict']
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}


def test_test_reports_writes_and_draws(config, trained, tmp_path):
    assert evaluate(config, trained, '--work-dir', tmp_path, '--out', tmp_path / 'maps', '--show-dir', 'pictures') == 0
    assert len(list((tmp_path / 'maps').glob('*.png'))) == 4
    assert list(tmp_path.rglob('pictures/**/*.png'))
    assert evaluate(config, trained, '--work-dir', tmp_path, '--tta', '--out', tmp_path / 'out.pkl') == 0
    assert len(pickle.loads((tmp_path / 'out.pkl').read_bytes())) == 4


def test_a_named_checkpoint_spares_the_pretrained_file(data, trained, tmp_path, capsys):
    path = data / 'pretrained.py'
    path.write_text(CONFIG.format(data=data, pretrained=tmp_path / 'nowhere.pth'))
    assert evaluate(path, trained, '--work-dir', tmp_path) == 0
    assert train(path, '--work-dir', tmp_path, '--cfg-options', f'load_from={trained}') == 0
    assert train(path, '--work-dir', tmp_path / 'b', '--resume', trained) == 0
    capsys.readouterr()
    assert train(path, '--work-dir', tmp_path / 'c') == 2
    assert 'nowhere.pth' in capsys.readouterr().err


def fails(capsys, status):
    error = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and error[-1].startswith('error: ') and not any('Traceback' in line for line in error)
    return error[-1]


def test_mistakes_of_the_command_line(config, trained, tmp_path, capsys):
    assert 'nope.py' in fails(capsys, train('nope.py'))
    assert 'missing.pth' in fails(capsys, evaluate(config, tmp_path / 'missing.pth', '--work-dir', tmp_path))
    resume = train(config, '--work-dir', tmp_path, '--resume', tmp_path / 'missing.pth')
    assert 'missing.pth' in fails(capsys, resume)
    (tmp_path / 'file').touch()
    assert str(tmp_path / 'file') in fails(capsys, train(config, '--work-dir', tmp_path / 'file' / 'below'))
    out = evaluate(
        config, trained, '--work-dir', tmp_path, '--out', tmp_path / 'x.pkl', '--cfg-options', 'test_cfg=None'
    )
    assert 'test_cfg' in fails(capsys, out)
    tta = evaluate(config, trained, '--work-dir', tmp_path, '--tta', '--cfg-options', 'tta_model=None')
    assert 'tta_model' in fails(capsys, tta)
    assert 'torchrun' in fails(capsys, train(config, '--work-dir', tmp_path, '--launcher', 'pytorch'))


def test_mistakes_of_checkpoints(config, trained, tmp_path, capsys):
    truncated = tmp_path / 'truncated.pth'
    truncated.write_bytes(trained.read_bytes()[:2000])
    foreign = tmp_path / 'foreign.pth'
    torch.save(dict(state_dict={'conv1.weight': torch.zeros(3)}), foreign)
    headless = tmp_path / 'headless.pth'
    whole = read_checkpoint(trained)
    whole['state_dict'] = {key: value for key, value in whole['state_dict'].items() if 'decode_head' not in key}
    torch.save(whole, headless)
    assert 'decode_head' in fails(capsys, evaluate(config, headless, '--work-dir', tmp_path))
    assert 'decode_head' in fails(capsys, train(config, '--work-dir', tmp_path, '--resume', headless))
    assert train(config, '--work-dir', tmp_path, '--cfg-options', f'load_from={headless}') == 0
    for bad in (truncated, foreign):
        assert bad.name in fails(capsys, evaluate(config, bad, '--work-dir', tmp_path))
        assert bad.name in fails(capsys, train(config, '--work-dir', tmp_path, '--cfg-options', f'load_from={bad}'))
        assert bad.name in fails(capsys, train(config, '--work-dir', tmp_path, '--resume', bad))


def test_mistakes_of_data_and_config(config, tmp_path, capsys):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'labels').mkdir()

    def with_options(*options):
        return fails(capsys, train(config, '--work-dir', tmp_path / 'w', '--cfg-options', *options))

    assert 'is empty' in with_options(f'train_dataloader.dataset.data_root={tmp_path}')
    assert 'nowhere' in with_options(f'train_dataloader.dataset.data_root={tmp_path}/nowhere')
    assert 'NoSuchDataset' in with_options('train_dataloader.dataset.type=NoSuchDataset')
    assert 'NoSuchBackbone' in with_options('model.backbone.type=NoSuchBackbone')
    assert 'wheels' in with_options('model.backbone.wheels=4')
    assert 'sparsity' in with_options('model.backbone.type=sparsevit_mm.SparseSwin', 'model.backbone.sparsity=1.5')
    assert 'auto_scale_lr' in fails(
        capsys, train(config, '--work-dir', tmp_path, '--auto-scale-lr', '--cfg-options', 'auto_scale_lr=None')
    )


def test_debug_keeps_the_traceback(config):
    with pytest.raises(ValueError, match=r'nope\.py'):
        train('nope.py', '--debug')


@pytest.mark.slow
def test_two_processes_on_the_cpu(config, tmp_path):
    """Trains, validates and tests with gloo where there is no GPU, from the scripts a user calls."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    env = dict(os.environ, OMP_NUM_THREADS='1', PORT=str(port), CUDA_VISIBLE_DEVICES='')
    options = ['--work-dir', str(tmp_path), '--cfg-options', 'log_level=INFO', 'train_cfg.max_iters=2']
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / 'dist_train.sh'), str(config), '2', *options],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'Distributed launcher: pytorch' in done.stdout and 'GPU number: 2' in done.stdout
    assert 'mIoU' in done.stdout
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / 'dist_test.sh'), str(config), str(tmp_path / 'iter_2.pth'), '2', *options[:2]],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_scripts_say_how_they_are_called(script):
    done = subprocess.run(['bash', str(ROOT / 'tools' / script)], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(f'usage: bash tools/{script}')


def test_slurm_train_hands_everything_on(tmp_path):
    """A stand-in for srun shows what it is called with."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    env = dict(os.environ, PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS='4', SRUN_ARGS='--time=1 --mem=2G')
    command = ['bash', str(ROOT / 'tools' / 'slurm_train.sh'), 'part', 'job', 'my config.py', 'out', '--amp']
    lines = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {'part', '--ntasks=4', '--gres=gpu:4', '--time=1', '--mem=2G', 'my config.py', '--work-dir=out'} <= set(
        lines
    )
    assert lines[-2:] == ['--launcher=slurm', '--amp']
