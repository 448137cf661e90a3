"""Sites that are switched on one after another in real runs: by lengths, by a tolerated drop, killed and resumed."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hook_runs import FREE, Segments, build, run, segmentor_cfg
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.runner import Runner
from torch import nn
from two_processes import run_in_two_processes

from sparsevit_mm.apis import load_config
from sparsevit_mm.engine.hooks.phase_trials import STATE
from sparsevit_mm.models.checkpoints import read_checkpoint

HOOK = dict(type='sparsevit_mm.SparsityScheduleHook')
OWN = (0.25, 0.75)
FIXED = HOOK | dict(phases=dict(length=2), mode='linear')
# The second stage tolerates 0.5, the first one all of its 0.25.
TRIALS = HOOK | dict(phases=dict(tolerance=1.0, metric='quality', step=0.25))
TRAINED = [(0, 0.25), (0, 0.5), (0, 0.75), (0.25, 0.5), (0.25, 0.5), (0.25, 0.5)]
MAGNITUDE = dict(type='sparsevit_mm.MagnitudeSelector')


class Quality(BaseMetric):
    """Falls with the sparsity that the model has when it is validated."""

    def __init__(self, backbone: nn.Module, name: str, value: Callable[[tuple], float]) -> None:
        super().__init__(prefix='toy')
        self.backbone, self.name, self.value = backbone, name, value

    def process(self, data_batch: dict, data_samples: list) -> None:
        self.results.append(self.backbone.sparsity)

    def compute_metrics(self, results: list) -> dict:
        assert len(set(results)) == 1
        return {'another': 1.0, self.name: self.value(results[0])}


def quality(sparsity: tuple[float, ...]) -> float:
    return 80.0 - sparsity[0] - 10 * max(0.0, sparsity[1] - 0.5)


def better(sparsity: tuple[float, ...]) -> float:
    return 80.0 + sum(sparsity)


class Killed(Exception):
    pass


class Kill(Hook):
    """Ends a process when so many epochs or iterations are done, with their checkpoint saved but not validated."""

    priority = 'LOWEST'

    def __init__(self, at: int, by_epoch: bool) -> None:
        self.at, self.by_epoch = at, by_epoch

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        if not self.by_epoch and runner.iter + 1 == self.at:
            raise Killed

    def after_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch and runner.epoch + 1 == self.at:
            raise Killed


class Run:
    """A training of a tiny segmentor: what it was trained and validated at, and what it ended with."""

    def __init__(
        self,
        folder: Path,
        hook: dict,
        by_epoch: bool = False,
        count: int = 6,
        interval: int = 1,
        kill: int | None = None,
        metric: str = 'quality',
        value: Callable[[tuple], float] = quality,
        sparsity: tuple[float, ...] = OWN,
        save_best: str | None = None,
        **options,
    ) -> None:
        cfg = segmentor_cfg(sparsity, MAGNITUDE, out_indices=(1,))
        cfg['decode_head'].update(in_index=0)
        self.model = build(cfg)
        backbone = self.model.backbone
        seen = {True: [], False: []}
        backbone.register_forward_pre_hook(lambda module, args: seen[module.training].append(module.sparsity))
        self.trained, self.validated = seen[True], seen[False]
        name = 'max_epochs' if by_epoch else 'max_iters'
        loader = dict(batch_size=2, num_workers=0, dataset=Segments())
        sampler = 'DefaultSampler' if by_epoch else 'InfiniteSampler'
        checkpoint = dict(type='CheckpointHook', interval=1, by_epoch=by_epoch, save_best=save_best, rule='greater')
        settings = dict(
            train_cfg=dict(by_epoch=by_epoch, val_interval=interval) | {name: count},
            train_dataloader=loader | dict(sampler=dict(type=sampler, shuffle=False)),
            val_dataloader=loader | dict(batch_size=4, sampler=dict(type='DefaultSampler', shuffle=False)),
            val_evaluator=Evaluator(Quality(backbone, metric, value)),
            default_hooks=dict(checkpoint=checkpoint),
            log_processor=dict(by_epoch=by_epoch),
        )
        hooks = [hook, *([Kill(kill, by_epoch)] if kill else [])]
        self.runner = run(folder, self.model, hooks, train=False, **settings | options)
        try:
            self.runner.train()
            assert not kill
        except Killed:
            assert kill
        self.found = backbone.sparsity

    @property
    def state(self) -> dict | None:
        return self.runner.message_hub.get_info(STATE)


def counted(hook: dict, by_epoch: bool) -> dict:
    return hook if hook is TRIALS else hook | dict(by_epoch=by_epoch)


def test_lengths_in_iterations_and_validated_as_trained(tmp_path: Path) -> None:
    done = Run(tmp_path, FIXED, interval=2)
    expected = [(0, 0.375), (0, 0.75), (0.125, 0.75), (0.25, 0.75), (0.25, 0.75), (0.25, 0.75)]
    assert done.trained == expected and done.validated == expected[1::2] and done.found == OWN
    assert not (tmp_path / 'fitted_config.py').exists()


def test_lengths_in_epochs_at_once(tmp_path: Path) -> None:
    phases = [dict(sites='stage2.pair1', length=1), dict(sites=('stage1.pair1',), begin=2, end=3)]
    done = Run(tmp_path, HOOK | dict(phases=phases, by_epoch=True, target=(0.5, 0.5)), by_epoch=True, count=3)
    assert done.trained == [(0, 0.5)] * 4 + [(0.5, 0.5)] * 2 and done.validated == [(0, 0.5)] * 2 + [(0.5, 0.5)]


def test_merged_sites_end_at_their_mean(tmp_path: Path) -> None:
    model = build(segmentor_cfg((0.25, 0.5, 0.55), MAGNITUDE, depths=(2, 4)))
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, args: seen.append(module.sparsity))
    no_validation = dict(val_cfg=None, val_dataloader=None, val_evaluator=None)
    run(tmp_path, model, [HOOK | dict(phases=dict(length=1), merge=0.085)], **no_validation)
    assert seen == [pytest.approx((0, 0.525, 0.525)), pytest.approx((0.25, 0.525, 0.525))]
    assert model.backbone.sparsity == pytest.approx((0.25, 0.525, 0.525))


@pytest.mark.parametrize('by_epoch', [False, True])
def test_tolerated_drop(tmp_path: Path, by_epoch: bool) -> None:
    done = Run(tmp_path, TRIALS, by_epoch)
    assert done.trained == [value for value in TRAINED for _ in range(1 + by_epoch)]
    assert done.validated == [(0, 0), *TRAINED] and done.found == (0.25, 0.5)
    assert done.state['reference'] == 80.0 and done.state['metric'] == 'toy/quality' and done.state['done'] == 6
    decided = [(record['done'], record['site'], record['accepted']) for record in done.state['history']]
    second = [(count, 'stage2.pair1', count < 3) for count in (1, 2, 3)]
    assert decided == [*second, (4, 'stage1.pair1', True)]


def test_a_lower_metric_and_a_given_reference(tmp_path: Path) -> None:
    phases = dict(tolerance=0.1, metric='toy/rmse', step=0.5, reference=1.0)
    done = Run(tmp_path, HOOK | dict(phases=phases), count=4, metric='rmse', value=lambda sparsity: 0.9 + sparsity[1])
    assert done.trained == [(0, 0.5), (0.25, 0), (0.25, 0), (0.25, 0)] and done.validated == done.trained
    assert done.found == (0.25, 0)


@pytest.mark.parametrize('by_epoch', [False, True])
@pytest.mark.parametrize('hook', [FIXED, TRIALS], ids=['lengths', 'tolerance'])
def test_killed_before_every_validation(tmp_path: Path, hook: dict, by_epoch: bool) -> None:
    options = dict(hook=counted(hook, by_epoch), by_epoch=by_epoch, count=5)
    whole = Run(tmp_path / 'whole', **options)
    trained, validated = [], []
    for kill in (1, 2, 3, 4, 5, None):
        part = Run(tmp_path / 'parts', kill=kill, resume=True, **options)
        trained, validated = trained + part.trained, validated + part.validated
    assert trained == whole.trained and part.found == whole.found and part.state == whole.state
    assert validated == (whole.validated if hook is TRIALS else [])


@pytest.mark.parametrize('by_epoch', [False, True])
def test_resumed_from_checkpoints_saved_after_their_validation(tmp_path: Path, by_epoch: bool) -> None:
    """With ``save_best``, mmengine saves one a second time where it is the best."""
    options = dict(hook=TRIALS, by_epoch=by_epoch, save_best='toy/quality', value=better)
    whole = Run(tmp_path, **options)
    assert whole.found == OWN and len(list(tmp_path.glob('best_*'))) == 1
    for count in (1, 3, 6):
        path = tmp_path / f'{"epoch" if by_epoch else "iter"}_{count}.pth'
        rest = Run(tmp_path / 'rest', resume=True, load_from=str(path), **options)
        assert rest.trained == whole.trained[count * (1 + by_epoch) :]
        assert rest.found == whole.found and rest.state == whole.state
        assert len(rest.validated) == (6 - count if count < 6 else 1)  # the last one was not the best


def test_checkpoints_hold_plain_values(tmp_path: Path) -> None:
    Run(tmp_path, TRIALS, count=2)
    checkpoint = read_checkpoint(tmp_path / 'iter_2.pth')
    assert checkpoint['message_hub']['runtime_info'][STATE]['history'][0]['accepted'] is True


def test_phases_that_training_ends_in(tmp_path: Path) -> None:
    done, lines = logged(lambda: Run(tmp_path, TRIALS, count=2))
    assert done.found == (0, 0.5)
    assert any('need 4 validations if all are within tolerance, but the training has 2' in line for line in lines)
    assert any('ended in the phase of stage2.pair1' in line for line in lines)
    _, lines = logged(lambda: Run(tmp_path, FIXED, count=3))
    assert any('reaches its target after 4 iterations, but training ends after 3' in line for line in lines)


def logged(train: Callable[[], Run]) -> tuple[Run, list[str]]:
    from sparsevit_mm.engine.hooks import phase_trials, sparsity_schedule_hook

    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for module in (phase_trials, sparsity_schedule_hook):
            patch.setattr(module, 'print_log', lambda line, logger, level=logging.INFO: lines.append(line))
        return train(), lines


@pytest.mark.parametrize(
    ('hook', 'options', 'message'),
    [
        (TRIALS, dict(val_dataloader=None, val_evaluator=None, val_cfg=None), 'need validations, but the runner has'),
        (TRIALS, dict(metric='other'), "metric 'quality' is not among .* toy/another, toy/other"),
        (TRIALS, dict(sparsity=(0, 0)), 'nothing to do'),
        (FIXED, dict(sparsity=(0, 0)), 'nothing to do'),
        (HOOK | dict(phases=[dict(sites='stage2.pair1', length=1)]), {}, 'leave out stage1.pair1'),
        (HOOK | dict(phases=[dict(sites='block3', length=1)]), {}, 'block3, which .* stage1.pair1, stage2.pair1'),
        (FIXED | dict(by_epoch=True), {}, 'SparsityScheduleHook has by_epoch=True'),
    ],
)
def test_what_does_not_fit_the_run(tmp_path: Path, hook: dict, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Run(tmp_path, hook, **options)
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize('options', [dict(phases=dict(length=2), mode='cosine'), TRIALS])
def test_windows_of_a_stage_with_counts_of_images_are_refused_before_training(tmp_path: Path, options: dict) -> None:
    model = build(segmentor_cfg(0.5, FREE, counts='adaptive', depths=(2, 4)))
    with pytest.raises(ValueError, match=r"give sites of a stage several sparsities: .*with counts='adaptive' one"):
        run(tmp_path, model, [HOOK | options], iters=1)
    run(tmp_path, model, [HOOK | dict(phases=dict(length=1))], iters=3)  # one after the other, each at once
    assert model.backbone.sparsity == (0.5, 0.5, 0.5)


def test_only_one_hook_sets_the_sparsity(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='SparsityAdaptationHook both set'):
        run(tmp_path, build(segmentor_cfg(OWN)), [TRIALS, dict(type='sparsevit_mm.SparsityAdaptationHook')])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(), 'end of SparsityScheduleHook must be an integer from 1 on, got None; or give phases'),
        (dict(end=3, merge=0.1), 'merge=0.1 of SparsityScheduleHook is for phases'),
        (dict(phases=dict(length=2), merge=1), r'merge of SparsityScheduleHook must lie in \[0, 1\), got 1'),
        (dict(phases=dict(length=2), end=3), 'has phases and end: '),
        (dict(phases=dict(length=2), begin=1, start=0.1), 'has phases and begin, start: '),
        (dict(phases=[]), 'must be a dict with length or tolerance, or a list'),
        (dict(phases={}), 'need length, a number of epochs or iterations, or tolerance'),
        (dict(phases=dict(length=2), mode='cubic'), r"mode .* one of \('step', 'linear', 'cosine'\), got 'cubic'"),
        (dict(phases=dict(tolerance=1, metric='mIoU'), by_epoch=True), 'remove by_epoch=True'),
        (dict(phases=dict(tolerance=1, metric='mIoU'), mode='linear'), "remove mode='linear'"),
        (dict(phases=dict(tolerance=1)), 'metric in phases'),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ROOT_HOOKS.build(HOOK | options)


def test_sparsity_to_come_is_known_for_lengths_only(tmp_path: Path) -> None:
    hook = ROOT_HOOKS.build(TRIALS)
    with pytest.raises(ValueError, match='depends on validations to come'):
        hook.sparsity_at(3)


def test_fitted_config(tmp_path: Path) -> None:
    from tiny_segmentation import make_project

    from sparsevit_mm.config import sparsify_config
    from sparsevit_mm.runs import build_runner

    stock, checkpoint = make_project(tmp_path)
    trials = HOOK | dict(phases=dict(tolerance=100.0, metric='mIoU', step=0.3))
    cfg = sparsify_config(load_config(stock), OWN)
    cfg.custom_hooks = [trials, dict(type='sparsevit_mm.SparsityLogHook')]
    cfg.merge_from_dict({
        'train_cfg.val_interval': 1, 'work_dir': str(tmp_path / 'work'), 'load_from': str(checkpoint),
        'model.backbone.init_cfg': None, 'default_hooks.checkpoint': dict(type='CheckpointHook', by_epoch=False),
    })  # fmt: skip
    build_runner(cfg).train()
    fitted = load_config(tmp_path / 'work' / 'fitted_config.py')
    assert tuple(fitted.model.backbone.sparsity) == (0, 0.6) and fitted.model.backbone.type.endswith('SparseSwin')
    assert [hook['type'] for hook in fitted.custom_hooks] == ['sparsevit_mm.SparsityLogHook']
    assert fitted.load_from.endswith('iter_2.pth') and fitted.train_dataloader == load_config(stock).train_dataloader
    text = (tmp_path / 'work' / 'fitted_config.py').read_text()
    assert '_base_' in text and "metric='mIoU'" in text and 'stage2.pair1 0.6' in text and 'tools/test.py' in text


def _train_rank(rank: int, folder: str) -> None:
    done = Run(
        Path(folder, 'work'),
        TRIALS,
        value=quality if rank == 0 else lambda sparsity: 0.0 if sum(sparsity) else 80.0,
        launcher='pytorch',
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        cfg=dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None)),
    )
    torch.save((done.trained, done.found, done.state), f'{folder}/{rank}.pth')


def test_two_processes_decide_alike(tmp_path: Path) -> None:
    run_in_two_processes(_train_rank, str(tmp_path))
    first, second = (torch.load(tmp_path / f'{rank}.pth', weights_only=True) for rank in range(2))
    assert first == second and first[0] == TRAINED and first[1] == (0.25, 0.5)
