"""The schedule in runners: what each iteration is trained at, and what everything else sees."""

import json
from pathlib import Path

import pytest
from hook_runs import build, hook_of, run, segmentor_cfg
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.runner import Runner
from torch import nn

from sparsevit_mm.engine.hooks import SparsityScheduleHook

HOOK = dict(type='sparsevit_mm.SparsityScheduleHook')
OWN = (0.25, 0.75)


def model_and_notes(sparsity: float | tuple = OWN) -> tuple[nn.Module, dict[bool, list]]:
    """A segmentor, and the sparsity of its passes in training and out of it."""
    model = build(segmentor_cfg(sparsity))
    seen = {True: [], False: []}
    model.backbone.register_forward_pre_hook(lambda backbone, args: seen[backbone.training].append(backbone.sparsity))
    return model, seen


def test_linear_in_iterations_and_validated_at_the_target(tmp_path: Path) -> None:
    model, seen = model_and_notes()
    cfg = dict(by_epoch=False, max_iters=7, val_interval=2)
    run(tmp_path, model, [HOOK | dict(begin=1, end=5)], iters=7, train_cfg=cfg)
    parts = [0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert seen[True] == [pytest.approx((part * 0.25, part * 0.75)) for part in parts]
    assert seen[True][5:] == [OWN] * 2 and set(seen[False]) == {OWN}
    assert model.backbone.sparsity == OWN


def test_cosine_from_a_start_to_a_target(tmp_path: Path) -> None:
    model, seen = model_and_notes(0)
    run(tmp_path, model, [HOOK | dict(end=4, start=(0.2, 0.4), target=0.6, mode='cosine')], iters=5)
    parts = [0, 0.5 - 0.5**1.5, 0.5, 0.5 + 0.5**1.5, 1]
    assert seen[True] == [pytest.approx((0.2 + part * 0.4, 0.4 + part * 0.2)) for part in parts]
    assert set(seen[False]) == {(0.6, 0.6)} and model.backbone.sparsity == (0.6, 0.6)


def test_once_an_epoch(tmp_path: Path) -> None:
    model, seen = model_and_notes(0.6)
    by_epoch(tmp_path, model, [HOOK | dict(end=2, by_epoch=True)], epochs=3)
    assert seen[True] == [pytest.approx((value,) * 2) for value in (0, 0, 0.3, 0.3, 0.6, 0.6)]


def by_epoch(folder: Path, model: nn.Module, hooks: list, epochs: int) -> Runner:
    from hook_runs import Segments

    loader = dict(
        batch_size=2, num_workers=0, dataset=Segments(), sampler=dict(type='DefaultSampler', shuffle=False)
    )  # fmt: skip
    return run(
        folder,
        model,
        hooks,
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=10),
        train_dataloader=loader,
        default_hooks=dict(checkpoint=None),
    )


def test_a_resumed_run_goes_on(tmp_path: Path) -> None:
    options = dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=3, by_epoch=False)))
    (model, first), (again, second) = model_and_notes(), model_and_notes()
    run(tmp_path, model, [HOOK | dict(end=5)], iters=3, **options)
    run(tmp_path, again, [HOOK | dict(end=5)], iters=6, resume=True, **options)
    values = first[True] + second[True]
    assert [value[1] for value in values] == pytest.approx([0, 0.15, 0.3, 0.45, 0.6, 0.75])


@pytest.mark.parametrize('mode', ['linear', 'cosine'])
def test_order_within_a_stage_survives_rounding(tmp_path: Path, mode: str) -> None:
    model = build(segmentor_cfg(0, depths=(2, 6)))
    model.backbone.sparsity = target = (0.7, 0.3, 0.3, 0.9)
    hook = dict(end=997, start=(0.1, 0.1, 0.2, 0.2), mode=mode)
    schedule = hook_of(run(tmp_path, model, [HOOK | hook], iters=1), SparsityScheduleHook)
    values = [schedule.sparsity_at(step) for step in range(1001)]
    for value in values:
        model.backbone.sparsity = value  # raises where it decreases within a stage
    assert values[0] == (0.1, 0.1, 0.2, 0.2) and values[-1] == values[997] == target


def test_mean_sparsity_is_logged(tmp_path: Path) -> None:
    model, seen = model_and_notes()
    hooks = dict(logger=dict(type='LoggerHook', interval=1), checkpoint=None)
    runner = run(
        tmp_path, model, [HOOK | dict(end=2)], iters=3, default_hooks=hooks, log_processor=dict(by_epoch=False)
    )  # fmt: skip
    lines = [json.loads(line) for line in Path(runner._log_dir, 'vis_data', 'scalars.json').read_text().splitlines()]
    assert [line['sparsity'] for line in lines if 'loss' in line] == pytest.approx([0, 0.25, 0.5])
    assert [sum(value) / 2 for value in seen[True]] == pytest.approx([0, 0.25, 0.5])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(end=3, start=OWN), 'nothing to do'),
        (dict(end=3, start=(0.1, 0.2, 0.3)), 'sparsity has 3 values'),
        (dict(end=3, target=1.0), r'must lie in \[0, 1\)'),
        (dict(end=3, by_epoch=True), 'SparsityScheduleHook has by_epoch=True'),
    ],
)
def test_what_does_not_fit_the_run(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(tmp_path, build(segmentor_cfg(OWN)), [HOOK | options])


def test_only_one_hook_sets_the_sparsity(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='SparsityAdaptationHook both set'):
        run(tmp_path, build(segmentor_cfg(OWN)), [HOOK | dict(end=3), dict(type='sparsevit_mm.SparsityAdaptationHook')])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(end=0), 'end of SparsityScheduleHook'),
        (dict(end=2.5), 'end of SparsityScheduleHook'),
        (dict(end=3, begin=-1), 'begin of SparsityScheduleHook'),
        (dict(end=3, begin=3), 'end=3 of SparsityScheduleHook must be greater than begin=3'),
        (dict(end=3, mode='step'), 'mode of SparsityScheduleHook'),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ROOT_HOOKS.build(HOOK | options)
