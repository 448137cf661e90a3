"""A model scored in steps: each on exactly its images, the last one what a test loop gives."""

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, METRICS, MODELS
from mmengine.runner import Runner, loops
from mmengine.structures import InstanceData
from tiny_nuscenes import make_nuscenes
from tiny_segmentation import make_project
from two_processes import run_in_two_processes

from sparsevit_mm.apis import load_config, sparsify_config
from sparsevit_mm.config import drop_pretrained
from sparsevit_mm.engine.loops.scoring import Scorer
from sparsevit_mm.models.checkpoints import load_into
from sparsevit_mm.runs import build_runner
from sparsevit_mm.search.split import SearchSplit, split_for_search

IMAGES = 7


@MODELS.register_module(force=True)
class Oracle(BaseModel):
    """Finds the objects of an image, more or less: an AP that is neither 0 nor 1, and differs by image."""

    def forward(self, inputs: list, data_samples: list, mode: str = 'predict') -> list:
        for sample in data_samples:
            rng = np.random.default_rng(sample.img_id)
            boxes = sample.gt_instances.bboxes.tensor
            boxes = boxes + torch.tensor(rng.normal(0, 2, boxes.shape), dtype=boxes.dtype)
            scores = torch.tensor(rng.uniform(0.1, 1, len(boxes)))
            sample.pred_instances = InstanceData(bboxes=boxes, scores=scores, labels=sample.gt_instances.labels)
        return data_samples


@METRICS.register_module(force=True)
class SeenImages(BaseMetric):
    """Tells which images it was given, in the samples and in the batch."""

    default_prefix = 'seen'

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        batch = [sample.img_path for sample in data_batch['data_samples']]
        assert batch == [sample['img_path'] for sample in data_samples]
        assert len(data_batch['inputs']) == len(batch)
        self.results += [int(Path(path).stem) for path in batch]

    def compute_metrics(self, results: list[int]) -> dict:
        return {'images': results}


@HOOKS.register_module(force=True)
class Calls(Hook):
    """Counts what it was called for."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.metrics: list[dict | None] = []

    def before_test(self, runner: Runner) -> None:
        self.names.append('before_test')

    def before_test_epoch(self, runner: Runner) -> None:
        self.names.append('before_test_epoch')

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: list) -> None:
        self.names.append(f'iter {batch_idx}')

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self.names.append('after_test_epoch')
        self.metrics.append(metrics)

    def after_test(self, runner: Runner) -> None:
        self.names.append('after_test')


@pytest.fixture(scope='module')
def project(tmp_path_factory) -> tuple[Path, Path]:
    return make_project(tmp_path_factory.mktemp('tiny'), train=IMAGES)


def segmentation(project: tuple[Path, Path], work_dir: Path, **settings: object) -> tuple[Runner, Config]:
    """A small Swin with weights that are not trained, and its config; mIoU tells images apart all the same."""
    config, checkpoint = project
    cfg = sparsify_config(load_config(config), 0.25)
    drop_pretrained(cfg)
    cfg.val_evaluator = [cfg.val_evaluator, dict(type='SeenImages')]
    cfg.custom_hooks = [dict(type='Calls')]
    cfg.work_dir = str(work_dir)
    cfg.val_dataloader.update(settings)
    runner = build_runner(cfg)
    load_into(runner.model, checkpoint)
    runner.call_hook('before_run')
    return runner, cfg


def detection(project: tuple[Path, Path], work_dir: Path, **settings: object) -> tuple[Runner, Config]:
    """The pictures of the segmentation set with random boxes, as a COCO set; one of them without any."""
    rng = np.random.default_rng(0)
    root = project[0].parent / 'data'
    images = [dict(id=10 + i, file_name=f'{i}.png', height=64, width=64) for i in range(IMAGES)]
    boxes = [[*map(int, rng.integers(0, 30, 2)), *map(int, rng.integers(10, 30, 2))] for _ in range(3 * IMAGES - 3)]
    annotations = [
        dict(id=i, image_id=10 + i // 3, category_id=i % 3, bbox=box, area=box[2] * box[3], iscrowd=0)
        for i, box in enumerate(boxes)
    ]
    categories = [dict(id=i, name=name) for i, name in enumerate('abc')]
    for name in ('train', 'val'):
        content = dict(images=images, annotations=annotations, categories=categories)
        (root / f'{name}.json').write_text(json.dumps(content))

    def loader(name: str) -> dict:
        pipeline = [
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape')),
        ]
        dataset = dict(type='CocoDataset', data_root=str(root), ann_file=f'{name}.json', pipeline=pipeline)
        dataset.update(data_prefix=dict(img='train/images/'), metainfo=dict(classes=tuple('abc')))
        return dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset)

    cfg = Config(dict(default_scope='mmdet', model=dict(type='Oracle'), work_dir=str(work_dir)))
    cfg.custom_hooks = [dict(type='Calls')]
    runner = build_runner(cfg)
    runner.call_hook('before_run')
    cfg.train_dataloader, cfg.val_dataloader = loader('train'), loader('val')
    cfg.val_dataloader.update(settings)
    coco = dict(type='CocoMetric', ann_file=f'{root}/val.json', metric='bbox')
    cfg.val_evaluator = [coco, dict(type='SeenImages')]
    return runner, cfg


KINDS = {'segmentation': segmentation, 'detection': detection}


def split_of(runner: Runner, cfg: Config, rungs: tuple = (), **options: object) -> SearchSplit:
    return split_for_search(cfg, **{'images': IMAGES, 'seed': 0, 'folder': runner.work_dir, 'rungs': rungs, **options})


def loop_of(runner: Runner, split: SearchSplit) -> loops.TestLoop:
    loop = loops.TestLoop(runner, split.dataloader, split.evaluator)
    runner._test_loop = loop  # hooks look for the loop that runs
    return loop


def calls_of(runner: Runner) -> Calls:
    return next(hook for hook in runner.hooks if isinstance(hook, Calls))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('rungs', [(), (3, 4), (0.3, 0.6, 0.8)])
def test_the_last_step_is_what_a_test_loop_gives(kind, rungs, project, tmp_path):
    runner, cfg = KINDS[kind](project, tmp_path)
    split = split_of(runner, cfg, rungs)
    expected = loop_of(runner, split).run()
    steps = list(Scorer(loop_of(runner, split), split).steps())
    assert steps[-1] == (IMAGES, expected)
    assert len(steps) == len(rungs) + 1
    assert 0 < next(iter(expected.values())) < 100


@pytest.mark.parametrize('kind', KINDS)
def test_each_step_is_a_test_on_its_images_alone(kind, project, tmp_path):
    runner, cfg = KINDS[kind](project, tmp_path)
    split = split_of(runner, cfg, (1, 3, 4))
    steps = list(Scorer(loop_of(runner, split), split).steps())
    assert [images for images, _ in steps] == [1, 3, 4, IMAGES]
    for (images, metrics), rung in zip(steps, split.rungs):
        part = copy.deepcopy(split.dataloader)
        dataset = part['dataset']
        dataset['indices'] = (dataset.get('indices') or list(range(IMAGES)))[:images]
        alone = loops.TestLoop(runner, part, rung.evaluator)
        runner._test_loop = alone
        assert alone.run() == metrics
        assert len(set(metrics['seen/images'])) == images
    assert len({repr(metrics) for _, metrics in steps}) == len(steps)


def test_two_tests_in_a_row_agree_and_nothing_is_kept_between_them(project, tmp_path):
    runner, cfg = detection(project, tmp_path)
    split = split_of(runner, cfg, (3,))
    loop = loop_of(runner, split)
    scorer = Scorer(loop, split)
    first = list(scorer.steps())
    steps = scorer.steps()
    assert next(steps) == first[0]
    assert any(metric.results for metric in loop.evaluator.metrics), 'of the images so far'
    steps.close()
    assert not any(metric.results for metric in loop.evaluator.metrics)
    assert list(scorer.steps()) == first


class TestHooks:
    def test_are_called_as_in_a_test_loop(self, project, tmp_path):
        runner, cfg = detection(project, tmp_path)
        split = split_of(runner, cfg, (3,))
        calls = calls_of(runner)
        loop_of(runner, split).run()
        expected, calls.names = calls.names, []
        assert expected[-2:] == ['after_test_epoch', 'after_test']
        *_, (_, metrics) = Scorer(loop_of(runner, split), split).steps()
        assert calls.names == expected
        assert calls.metrics == [metrics, metrics]

    def test_end_the_test_that_is_stopped_early(self, project, tmp_path):
        runner, cfg = detection(project, tmp_path)
        split = split_of(runner, cfg, (3,))
        steps = Scorer(loop_of(runner, split), split).steps()
        _, metrics = next(steps)
        steps.close()
        calls = calls_of(runner)
        assert calls.names == [
            *('before_test', 'before_test_epoch', 'iter 0', 'iter 1', 'after_test_epoch', 'after_test')
        ]
        assert calls.metrics == [metrics]

    def test_undo_what_they_did_when_a_test_fails(self, project, tmp_path, monkeypatch):
        runner, cfg = detection(project, tmp_path)
        split = split_of(runner, cfg, (3,))
        loop = loop_of(runner, split)
        scorer = Scorer(loop, split)

        def fail(batch: dict) -> None:
            raise RuntimeError('out of memory')

        with monkeypatch.context() as patch:
            steps = scorer.steps()
            next(steps)
            patch.setattr(runner.model, 'test_step', fail)
            with pytest.raises(RuntimeError, match='out of memory'):
                next(steps)
        calls = calls_of(runner)
        assert calls.names[-2:] == ['after_test_epoch', 'after_test'] and calls.metrics == [None]
        again = list(scorer.steps())
        assert again[-1][0] == IMAGES and len(again[-1][1]['seen/images']) == IMAGES

    def test_that_fail_are_not_called_twice(self, project, tmp_path, monkeypatch):
        runner, cfg = detection(project, tmp_path)
        split = split_of(runner, cfg)
        calls = calls_of(runner)

        def interrupt(runner: Runner, metrics: dict | None = None) -> None:
            calls.names.append('after_test_epoch')
            raise RuntimeError('no space left')

        monkeypatch.setattr(calls, 'after_test_epoch', interrupt)
        with pytest.raises(RuntimeError, match='no space left'):
            list(Scorer(loop_of(runner, split), split).steps())
        assert calls.names.count('after_test_epoch') == 1


@pytest.mark.parametrize('batch_size', [1, 4, 16])
def test_batches_may_hold_the_ends_of_several_rungs(batch_size, project, tmp_path):
    runner, cfg = detection(project, tmp_path, batch_size=batch_size)
    split = split_of(runner, cfg, (1, 2, 5))
    steps = list(Scorer(loop_of(runner, split), split).steps())
    seen = [metrics['seen/images'] for _, metrics in steps]
    assert [len(images) for images in seen] == [1, 2, 5, IMAGES]
    assert all(seen[-1][: len(images)] == images for images in seen)
    assert sorted(seen[-1]) == list(range(IMAGES))


@pytest.mark.slow
def test_workers_that_live_on_begin_anew_after_an_early_stop(project, tmp_path):
    runner, cfg = detection(project, tmp_path, batch_size=1, num_workers=1, persistent_workers=True)
    split = split_of(runner, cfg, (2,))
    scorer = Scorer(loop_of(runner, split), split)
    steps = scorer.steps()
    first = next(steps)
    steps.close()
    again = list(scorer.steps())
    assert again[0] == first
    assert sorted(again[-1][1]['seen/images']) == list(range(IMAGES))


def test_a_model_is_put_to_evaluation(project, tmp_path):
    runner, cfg = detection(project, tmp_path)
    split = split_of(runner, cfg, (3,))
    runner.model.train()
    for _ in Scorer(loop_of(runner, split), split).steps():
        assert not runner.model.training


def test_data_set_of_another_length(project, tmp_path):
    runner, cfg = detection(project, tmp_path)
    split = split_of(runner, cfg, (3,))
    split.dataloader['dataset']['indices'] = 6
    with pytest.raises(ValueError, match=r'7 images were chosen .* data set has 6, .*Leave multi-fidelity off'):
        Scorer(loop_of(runner, split), split)


def test_own_images_that_were_not_counted(project, tmp_path):
    runner, cfg = detection(project, tmp_path)
    cfg.search_dataloader = copy.deepcopy(cfg.val_dataloader)
    cfg.search_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset)
    cfg.search_evaluator = dict(type='SeenImages')
    for rungs, counts in (((), [14]), ((0.25, 5), [4, 5, 14])):
        split = split_of(runner, cfg, rungs)
        scorer = Scorer(loop_of(runner, split), split)
        assert list(scorer.images) == [images for images, _ in scorer.steps()] == counts


def test_monocular_3d_on_nuscenes(tmp_path):
    """A stock config, whose own metric would refuse anything but the official split."""
    pytest.importorskip('mmdet3d')
    cfg = sparsify_config(load_config(make_nuscenes(tmp_path / 'nuscenes')), 0.5)
    drop_pretrained(cfg)
    cfg.work_dir = str(tmp_path)
    runner = build_runner(cfg)
    runner.call_hook('before_run')
    split = split_of(runner, cfg, (5, 10), images=12)
    steps = list(Scorer(loop_of(runner, split), split).steps())
    assert [images for images, _ in steps] == [5, 10, 12]
    assert steps[-1][1] == loop_of(runner, split).run()
    assert all(0 <= metrics['center_distance/mAP'] <= 100 for _, metrics in steps)


def _score_rank(rank: int, config: Path, checkpoint: Path, folder: str, expected: dict) -> None:
    os.chdir(folder)  # where ranks exchange results through files
    for kind, steps in expected.items():
        work_dir = Path(folder, f'{kind}{rank}')
        runner, cfg = KINDS[kind]((config, checkpoint), work_dir)
        split = split_of(runner, cfg, (1, 3, 4))
        scorer = Scorer(loop_of(runner, split), split)
        for _ in range(2):
            found = list(scorer.steps())
            assert found == steps, f'{kind}: {found} instead of {steps}'
        part = scorer.steps()
        next(part)
        next(part)
        part.close()
        assert list(scorer.steps()) == steps
        last = [metrics for _, metrics in steps][-1]
        assert loop_of(runner, split).run() == last


@pytest.mark.slow
def test_two_ranks_give_what_one_gives(project, tmp_path):
    """Seven images, so that the sampler pads, and rungs that two ranks do not share evenly."""
    expected = {}
    for kind, build in KINDS.items():
        runner, cfg = build(project, tmp_path / kind)
        split = split_of(runner, cfg, (1, 3, 4))
        expected[kind] = list(Scorer(loop_of(runner, split), split).steps())
    run_in_two_processes(_score_rank, *project, str(tmp_path), expected)
