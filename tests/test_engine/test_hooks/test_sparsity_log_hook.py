import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hook_runs import FREE, LEARNED, SITES, build, run, segmentor_cfg
from mmengine.hooks import Hook
from mmengine.registry import VISBACKENDS
from mmengine.runner import Runner
from mmengine.visualization import BaseVisBackend

from sparsevit_mm.cost import count_macs
from sparsevit_mm.engine.hooks import SparsityLogHook, sparsity_log_hook
from sparsevit_mm.models import SparseSwin


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said = []
    monkeypatch.setattr(sparsity_log_hook, 'print_log', lambda text, logger, level=logging.INFO: said.append(text))
    return said


def test_sites_and_macs_are_logged(lines: list[str]) -> None:
    model = torch.nn.Module()
    model.backbone = SparseSwin(
        embed_dims=8, depths=(2, 2), num_heads=(1, 2), strides=(4, 2), out_indices=(1,), window_size=2,
        sparsity=(0.5, 0.25),
    )  # fmt: skip
    SparsityLogHook().before_run(SimpleNamespace(model=model))
    assert lines == ['Sparsity of SparseSwin: stage1.pair1 0.5, stage2.pair1 0.25.']
    SparsityLogHook(shape=[64, 64]).before_run(SimpleNamespace(model=model))
    assert model.backbone.sparsity == (0.5, 0.25)
    sparse = count_macs(model.backbone, (64, 64))
    model.backbone.sparsity = 0
    share = sparse / count_macs(model.backbone, (64, 64))
    assert lines[1].startswith(lines[0]) and lines[1].endswith(f'at 64x64, {share:.1%} of dense.')


def test_curves_of_every_backend(tmp_path: Path) -> None:
    model, ratios = build(segmentor_cfg((0.5, 0.25))), []

    class Look(Hook):
        def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
            ratios.append({site: ratio.mean().item() for site, ratio in model.backbone.keep_ratios.items()})

    log = dict(type='sparsevit_mm.SparsityLogHook', interval=2, shape=(64, 64))
    schedule = dict(type='sparsevit_mm.SparsityScheduleHook', end=2)
    # Registered last, and still before the schedule takes its value back.
    runner = run(tmp_path, model, [Look(), schedule, log], iters=4, visualizer=VISUALIZER)
    lines = [json.loads(line) for line in Path(runner._log_dir, 'vis_data', 'scalars.json').read_text().splitlines()]
    points = [line for line in lines if 'sparsity/macs' in line]
    assert [line['step'] for line in points] == [2, 4]
    for point, sparsity, ratio in zip(points, ((0.25, 0.125), (0.5, 0.25)), ratios[1::2], strict=True):
        assert [point[f'sparsity/{site}'] for site in SITES] == pytest.approx(sparsity)
        assert {site: point[f'keep_ratio/{site}'] for site in SITES} == pytest.approx(ratio)
        model.backbone.sparsity = sparsity
        macs = count_macs(model.backbone, (64, 64))
        model.backbone.sparsity = 0
        assert point['sparsity/macs'] == pytest.approx(macs / count_macs(model.backbone, (64, 64)))
    assert points[0]['sparsity/macs'] > points[1]['sparsity/macs']
    told = [(step, set(points[0]) - {'step'}) for step in (2, 4)]
    assert told == TOLD


TOLD = []


@VISBACKENDS.register_module()
class ToldBackend(BaseVisBackend):
    """Notes the curves that it is told of."""

    def _init_env(self) -> None:
        pass

    @property
    def experiment(self) -> None:
        return None

    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs) -> None:
        if 'sparsity/macs' in scalar_dict:
            TOLD.append((step, set(scalar_dict)))


VISUALIZER = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='ToldBackend')])


def test_a_dense_site_and_a_plain_selector_want_nothing(tmp_path: Path) -> None:
    hook = SparsityLogHook(interval=1)
    for selector, sparsity in ((LEARNED, 0.0), (dict(type='sparsevit_mm.MagnitudeSelector'), 0.5)):
        model = build(segmentor_cfg(sparsity, selector))
        run(tmp_path, model, [], iters=1)
        assert hook.scalars(model.backbone) == {f'sparsity/{site}': sparsity for site in SITES}


def test_counts_of_images_in_training_and_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, seen = [], []
    monkeypatch.setattr(sparsity_log_hook, 'print_log', lambda text, logger, level=logging.INFO: said.append(text))
    model = build(segmentor_cfg(0.5, FREE, counts='adaptive'))
    model.register_forward_hook(lambda *_: seen.append(dict(model.backbone.kept_counts)))
    log = dict(type='sparsevit_mm.SparsityLogHook', interval=1)
    train_cfg = dict(by_epoch=False, max_iters=1, val_interval=1)
    visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    runner = run(tmp_path, model, [log], iters=1, visualizer=visualizer, train_cfg=train_cfg)
    lines = [json.loads(line) for line in Path(runner._log_dir, 'vis_data', 'scalars.json').read_text().splitlines()]
    (step,) = (line for line in lines if f'keep_count/{SITES[0]}_mean' in line)
    (val,) = (line for line in lines if f'val/keep_count/{SITES[0]}_mean' in line)
    for site in SITES:
        trained, validated = seen[0][site].double(), torch.cat([counts[site] for counts in seen[1:]]).double()
        assert len(trained) == 2 and len(validated) == 4
        assert step[f'keep_ratio/{site}'] == pytest.approx(trained.mean().item() / (16 if site == SITES[0] else 4))
        for name in ('mean', 'min', 'max'):
            assert step[f'keep_count/{site}_{name}'] == getattr(trained, name)()
            assert val[f'val/keep_count/{site}_{name}'] == getattr(validated, name)()
    assert [line for line in said if 'Units kept of an image, mean over 4 images: stage1.pair1 ' in line]


def test_mistakes() -> None:
    for shape in ((800,), (800, 0), (800, 1344.0)):
        with pytest.raises(ValueError, match='shape must be height and width'):
            SparsityLogHook(shape)
    for interval in (0, 1.5, True):
        with pytest.raises(ValueError, match='interval must be a positive number'):
            SparsityLogHook(interval=interval)
    with pytest.raises(ValueError, match='no sparse backbone'):
        SparsityLogHook().before_run(SimpleNamespace(model=torch.nn.Linear(1, 1)))
