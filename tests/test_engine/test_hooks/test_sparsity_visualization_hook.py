"""Validation and test of small real models with pictures of what they skip."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hook_runs import FAMILIES, Boxes, Nothing, Segments, build, detector_cfg, family_cfg, run, segmentor_cfg
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from mmengine.visualization.vis_backend import BaseVisBackend
from two_processes import run_in_two_processes

pytest.importorskip('mmseg')

from sparsevit_mm.engine.hooks import SparsityVisualizationHook
from sparsevit_mm.engine.hooks import sparsity_visualization_hook as module
from sparsevit_mm.models import find_sparse_backbone

HOOK = 'sparsevit_mm.SparsityVisualizationHook'


class Kept(BaseVisBackend):
    """A backend of one's own."""

    def __init__(self) -> None:
        super().__init__('')
        self.images: dict[str, tuple[np.ndarray, int]] = {}

    def _init_env(self) -> None:
        pass

    @property
    def experiment(self) -> 'Kept':
        return self

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs) -> None:
        assert name not in self.images
        self.images[name] = (image, step)


class Predictions(BaseMetric):
    """Everything that the evaluator gets, as one number."""

    def process(self, data_batch: dict, data_samples: list) -> None:
        for sample in data_samples:
            values = sample.get('pred_sem_seg') or sample['pred_instances']
            tensors = [value for value in values.values() if isinstance(value, torch.Tensor)]
            self.results.append([float(tensor.double().mean()) for tensor in tensors if tensor.numel()])

    def compute_metrics(self, results: list) -> dict:
        return {'sum': float(sum(map(sum, results)))}


class Files(Segments):
    """The generated images as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for index in range(len(self)):
            image = super().__getitem__(index)['inputs'].numpy().transpose(1, 2, 0)
            cv2.imwrite(str(folder / f'frame{index}.png'), image)

    def __getitem__(self, index: int) -> dict:
        item = super().__getitem__(index)
        item['data_samples'].set_metainfo(dict(img_path=str(self.folder / f'frame{index}.png')))
        return item


def validate(
    folder: Path,
    model: torch.nn.Module,
    hooks: list[dict],
    dataset=None,
    scope: str = 'mmseg',
    visualizer: str | None = None,
    fp16: bool = False,
    test: bool = False,
) -> tuple[dict[str, tuple[np.ndarray, int]], dict[str, float], Runner]:
    """What a backend got in a validation or a test, its metrics, and the runner."""
    backend = Kept()
    kind = visualizer or {'mmseg': 'SegLocalVisualizer', 'mmdet': 'DetLocalVisualizer'}[scope]
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dataset or (Segments() if scope == 'mmseg' else Boxes()),
    )
    runner = run(
        folder,
        model,
        hooks,
        scope=scope,
        train=False,
        visualizer=dict(type=kind, vis_backends=[backend]),
        val_dataloader=loader,
        val_evaluator=Evaluator(Predictions(prefix='all')),
        val_cfg=dict(fp16=fp16),
        test_dataloader=loader,
        test_evaluator=Evaluator(Predictions(prefix='all')),
        test_cfg=dict(),
    )
    return backend.images, runner.test() if test else runner.val(), runner


def hook(**options) -> dict:
    return dict(type=HOOK, interval=1) | options


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, np.ndarray]]:
    """The panels of every sheet, which is not drawn."""
    seen: list[dict[str, np.ndarray]] = []

    def note(image: np.ndarray, maps: list, title: str, panels: dict, classes: dict) -> np.ndarray:
        seen.append(dict(panels, image=image))
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr('sparsevit_mm.visualization.results.draw_overview', note)
    return seen


def coloured(picture: np.ndarray) -> bool:
    return (np.ptp(picture.astype(int), axis=2) > 60).mean() > 0.01


@pytest.mark.parametrize('family', FAMILIES)
def test_every_family(family: str, tmp_path: Path) -> None:
    images, _, runner = validate(tmp_path, build(family_cfg(family, True)), [hook(max_images=1)])
    assert list(images) == ['val_sparsity_image']
    ((picture, step),) = images.values()
    sites = len(find_sparse_backbone(runner.model).sites)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and step == 0 and coloured(picture)
    assert picture.shape[0] * picture.shape[1] > (sites + 4) * 300 * 300  # image, labels, prediction, heat map, sites


def test_panels_show_selection_labels_and_prediction(tmp_path: Path) -> None:
    """The same model, once with what it keeps and once dense."""
    pictures = {}
    for sparsity in (0.5, 0.0):
        model = build(segmentor_cfg(sparsity))
        images, *_ = validate(tmp_path / str(sparsity), model, [hook(max_images=1)])
        pictures[sparsity] = images['val_sparsity_image'][0].astype(int)
    night_blue = [(picture[..., 2] > picture[..., 0] + 25).mean() for picture in pictures.values()]
    assert night_blue[0] > night_blue[1] + 0.02


def test_every_backend_gets_it(tmp_path: Path) -> None:
    pytest.importorskip('tensorboard')
    model = build(segmentor_cfg())
    runner = run(
        tmp_path,
        model,
        [hook(max_images=2)],
        train=False,
        visualizer=dict(
            type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
        ),
    )
    runner.val()
    (folder,) = tmp_path.rglob('vis_image')
    assert {file.name for file in folder.iterdir()} == {'val_sparsity_image_0.png', 'val_sparsity_image_2_0.png'}
    events = b''.join(file.read_bytes() for file in tmp_path.rglob('events.out*'))
    assert b'val_sparsity_image' in events and b'\x89PNG' in events


@pytest.mark.parametrize(
    ('options', 'drawn'),
    [
        (dict(interval=1, max_images=None), 4),
        (dict(interval=1, max_images=3), 3),
        (dict(interval=3), 2),
        (dict(interval=50), 1),
        (dict(draw=False), 0),
    ],
)
def test_how_many_images(options: dict, drawn: int, tmp_path: Path, sheets: list) -> None:
    images, _, runner = validate(tmp_path, build(segmentor_cfg()), [hook(**options)])
    assert len(images) == drawn
    images.clear()
    runner.val()  # the next validation starts from the first image
    assert len(images) == drawn


@pytest.mark.parametrize('scope', ['mmseg', 'mmdet'])
def test_results_and_random_numbers_are_those_without_the_hook(scope: str, tmp_path: Path) -> None:
    pytest.importorskip(scope)
    metrics, states = [], []
    for hooks in ([], [hook(score_thr=0.0)]):
        model = build((segmentor_cfg if scope == 'mmseg' else detector_cfg)(), scope)
        np.random.seed(3)
        torch.manual_seed(3)
        images, found, runner = validate(tmp_path / str(len(hooks)), model, hooks, scope=scope)
        assert len(images) == 4 * len(hooks)
        metrics.append(found)
        states.append((np.random.rand(), float(torch.rand(1))))
        assert find_sparse_backbone(runner.model).sparsity == find_sparse_backbone(model).sparsity
    assert metrics[0] == metrics[1] and metrics[0]['all/sum'] != 0
    assert states[0] == states[1]


def test_only_batches_that_are_drawn_are_recorded(tmp_path: Path, sheets: list) -> None:
    model = build(segmentor_cfg())
    recorded = []
    backbone = find_sparse_backbone(model)
    backbone.register_forward_pre_hook(lambda *args: recorded.append(backbone._records is not None))
    validate(tmp_path, model, [hook(interval=2, max_images=1)])
    assert recorded == [True, False]


def test_mixed_precision(tmp_path: Path) -> None:
    images, *_ = validate(tmp_path, build(segmentor_cfg()), [hook(max_images=1)], fp16=True)
    assert coloured(images['val_sparsity_image'][0])


def test_visualizer_that_draws_no_predictions(tmp_path: Path, caplog) -> None:
    """mmengine's own is the one of a run that names none."""
    sizes = []
    for kind in ('SegLocalVisualizer', 'mmengine.Visualizer'):
        images, *_ = validate(tmp_path / kind, build(segmentor_cfg()), [hook(max_images=1)], visualizer=kind)
        sizes.append(images['val_sparsity_image'][0].shape)
    assert sizes[0] == sizes[1]


def warnings_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr(
        module, 'print_log', lambda message, logger, level: told.append(message) if level == logging.WARNING else None
    )
    return told


def test_file_that_is_gone_is_told_once(tmp_path: Path, sheets: list, monkeypatch: pytest.MonkeyPatch) -> None:
    told = warnings_of(monkeypatch)
    files = Files(tmp_path / 'images')
    images, *_ = validate(tmp_path / 'all', build(segmentor_cfg()), [hook()], files)
    assert list(images) == [f'val_sparsity_frame{i}' for i in range(4)] and not told
    for index in (1, 2):
        (files.folder / f'frame{index}.png').unlink()
    (files.folder / 'frame3.png').write_text('no image')
    without, *_ = validate(tmp_path / 'some', build(segmentor_cfg()), [hook()], files)
    assert list(without) == list(images) and len(told) == 1
    assert 'frame1.png cannot be read' in told[0]
    for with_file, without_file in zip(sheets[:4], sheets[4:], strict=True):
        assert all(np.array_equal(with_file[name], without_file[name]) for name in ('labels', 'prediction', 'image'))


def test_a_picture_that_fails_does_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = warnings_of(monkeypatch)

    def fail(*args, **kwargs):
        raise RuntimeError('no such font')

    monkeypatch.setattr('sparsevit_mm.visualization.results.draw_overview', fail)
    images, metrics, _ = validate(tmp_path, build(segmentor_cfg()), [hook()])
    assert not images and metrics['all/sum'] != 0
    assert told == ['SparsityVisualizationHook: an image was not drawn: RuntimeError: no such font']


def test_predictions_that_cannot_be_drawn_leave_the_selection(tmp_path: Path, sheets: list, monkeypatch) -> None:
    told = warnings_of(monkeypatch)
    dataset = Segments()
    dataset.metainfo = dict(classes=('ground', 'left', 'right'), palette=[[0, 0, 0]])  # a colour too few
    images, *_ = validate(tmp_path, build(segmentor_cfg()), [hook(max_images=2)], dataset)
    assert len(images) == 2 and len(told) == 1 and 'predictions are not drawn: IndexError' in told[0]
    assert [list(sheet) for sheet in sheets] == [['image']] * 2


def test_pictures_of_a_test_go_to_a_folder(tmp_path: Path, sheets: list) -> None:
    model = build(segmentor_cfg())
    images, _, runner = validate(tmp_path, model, [hook(max_images=2, test_out_dir='pictures')], Files(tmp_path / 'i'))
    assert len(images) == 2
    images.clear()
    runner.test()
    folder = Path(runner.work_dir, runner.timestamp, 'pictures')
    assert {file.name for file in folder.iterdir()} == {'test_sparsity_frame0.png', 'test_sparsity_frame1.png'}
    assert not images
    runner.test()
    assert len(list(folder.iterdir())) == 2


def test_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(
        Visualizer, 'show', lambda self, image, win_name, wait_time: shown.append((image.shape[2], win_name, wait_time))
    )
    images, *_ = validate(tmp_path, build(segmentor_cfg()), [hook(max_images=1, show=True, wait_time=2.0)])
    assert shown == [(3, 'val_sparsity_image', 2.0)] and not images


def test_model_without_a_sparse_backbone_is_told_at_the_start(tmp_path: Path) -> None:
    cfg = segmentor_cfg()
    cfg['backbone'] = dict(
        type='SwinTransformer', embed_dims=16, depths=(2, 2), num_heads=(2, 4), strides=(4, 2), out_indices=(0, 1),
        window_size=4,
    )  # fmt: skip
    with pytest.raises(ValueError, match='has no sparse backbone, its backbone is a SwinTransformer'):
        validate(tmp_path, build(cfg), [hook()])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(interval=0), 'interval must be a positive number of images, got 0'),
        (dict(interval=2.5), 'interval must be'),
        (dict(max_images=True), 'max_images must be'),
        (dict(score_thr=3), r'score_thr must be in \[0, 1\]'),
        (dict(wait_time=-1), 'wait_time must be 0 seconds or more'),
    ],
)
def test_mistakes(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparsityVisualizationHook(**options)


class Twice(Files):
    """Each image and its mirror image, as test-time augmentation gives them."""

    def __getitem__(self, index: int) -> dict:
        item = super().__getitem__(index)
        mirrored = item['data_samples'].clone()
        mirrored.set_metainfo(dict(flip=True, flip_direction='horizontal'))
        return dict(inputs=[item['inputs'], item['inputs'].flip(2)], data_samples=[item['data_samples'], mirrored])


def test_test_time_augmentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prediction is drawn; what was computed of several versions of an image has no one picture."""
    from mmseg.models import SegTTAModel

    told = warnings_of(monkeypatch)
    model = SegTTAModel(module=build(segmentor_cfg()))
    model._is_init = True
    images, *_ = validate(tmp_path, model, [hook(max_images=3)], Twice(tmp_path / 'images'), test=True)
    assert list(images) == [f'test_sparsity_frame{i}' for i in range(3)]
    assert all(coloured(picture) for picture, _ in images.values())
    assert len(told) == 1 and 'test-time augmentation' in told[0]


def _validate_rank(rank: int, folder: str) -> None:
    from sparsevit_mm.visualization import results

    results.draw_overview = lambda *args: np.zeros((2, 2, 3), np.uint8)  # in a process of its own
    model = build(segmentor_cfg())
    runner = run(
        Path(folder),
        model,
        [hook()],
        train=False,
        launcher='pytorch',
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        cfg=dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None)),
        visualizer=dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')]),
    )
    runner.val()


@pytest.mark.slow
def test_of_several_processes_the_first_one_draws(tmp_path: Path) -> None:
    run_in_two_processes(_validate_rank, str(tmp_path))
    (folder,) = tmp_path.rglob('vis_image')
    assert {file.name for file in folder.iterdir()} == {'val_sparsity_image_0.png', 'val_sparsity_image_2_0.png'}


@pytest.mark.data
def test_boxes_in_space_beside_their_labels(tmp_path: Path, data_root: Path) -> None:
    pytest.importorskip('mmdet3d')
    from sparsevit_mm.apis import init_scope, load_config

    root = Path(__file__).parents[3]
    cfg = load_config(root / 'configs/spvit/pgd_swin-t-p4-w7_fpn_48e_kitti-mini-mono3d_sparse-package.py')
    kitti = str(data_root / 'kitti_mini') + '/'
    small = dict(depths=(2, 2, 6, 2), embed_dims=24, num_heads=(1, 2, 4, 8))
    cfg.merge_from_dict(
        {
            'model.backbone': small,
            'model.neck.in_channels': [24, 48, 96, 192],
            'val_dataloader.dataset': dict(data_root=kitti, indices=1),
            'val_dataloader.num_workers': 0,
            'val_dataloader.persistent_workers': False,
        }
    )
    init_scope(cfg)
    backend, model = Kept(), build(cfg.model.to_dict(), 'mmdet3d')
    runner = run(
        tmp_path,
        model,
        [hook(score_thr=0.0)],
        scope='mmdet3d',
        train=False,
        visualizer=dict(type='Det3DLocalVisualizer', vis_backends=[backend]),
        val_dataloader=cfg.val_dataloader,
        val_evaluator=Evaluator(Nothing(prefix='toy')),
    )
    runner.val()
    assert len(backend.images) == 1 and all(coloured(picture) for picture, _ in backend.images.values())


def test_iteration_of_a_training_and_no_training_set_for_a_validation(tmp_path: Path, sheets: list) -> None:
    model = build(segmentor_cfg())
    images, _, runner = validate(tmp_path, model, [hook(max_images=1)])
    assert isinstance(runner._train_loop, dict) and [step for _, step in images.values()] == [0]
    images.clear()
    runner._train_loop['val_interval'] = 2
    runner.train()
    assert [step for _, step in images.values()] == [2]
