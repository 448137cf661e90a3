"""The keep-ratio loss in runners: what it adds, to whom, and when it is over."""

import copy
from pathlib import Path

import pytest
import torch
from hook_runs import SITES, batch, build, detector_cfg, hook_of, run, segmentor_cfg
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.runner import Runner

from sparsevit_mm.engine.hooks import KeepRatioLossHook
from sparsevit_mm.models.losses import keep_ratio_loss

HOOK = dict(type='sparsevit_mm.KeepRatioLossHook')


class Notes(Hook):
    """Keep ratios of every iteration."""

    def __init__(self) -> None:
        self.ratios = []

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        self.ratios.append(dict(runner.model.backbone.keep_ratios))


@pytest.mark.parametrize('reduction', ['image', 'batch'])
def test_the_term_is_that_of_the_ratios(tmp_path: Path, reduction: str) -> None:
    notes, model = Notes(), build(segmentor_cfg((0.5, 0.25)))
    runner = run(tmp_path, model, [HOOK | dict(weight=3.0, reduction=reduction), notes])
    for losses, ratios in zip(runner.losses, notes.ratios, strict=True):
        assert list(ratios) == list(SITES) and not ratios[SITES[0]].requires_grad
        term = 3 * keep_ratio_loss(list(ratios.values()), [0.5, 0.75], per_image=reduction == 'image')
        assert losses['loss_keep_ratio'] == pytest.approx(term.item(), rel=1e-5)
        assert losses['loss'] == pytest.approx(losses['decode.loss_ce'] + losses['loss_keep_ratio'], rel=1e-5)


def test_ratios_reach_their_targets(tmp_path: Path) -> None:
    notes, model = Notes(), build(segmentor_cfg((0.75, 0.25)))
    run(tmp_path, model, [HOOK | dict(weight=10.0), notes], iters=120, optim_wrapper=adam(lr=3e-3))
    for site, target in zip(SITES, (0.25, 0.75)):
        first, last = (abs(notes.ratios[i][site].mean().item() - target) for i in (0, -1))
        assert last < 0.05 and last < first


def adam(**options) -> dict:
    return dict(optimizer=dict(type='AdamW', **options))


def test_dense_sites_take_no_part(tmp_path: Path) -> None:
    notes, model = Notes(), build(segmentor_cfg((0, 0.5)))
    runner = run(tmp_path / 'one', model, [HOOK | dict(weight=1.0), notes])
    term = keep_ratio_loss([notes.ratios[0][SITES[1]]], [0.5])
    assert runner.losses[0]['loss_keep_ratio'] == pytest.approx(term.item(), rel=1e-5)
    runner = run(tmp_path / 'all', build(segmentor_cfg(0)), [HOOK])
    assert [losses['loss_keep_ratio'] for losses in runner.losses] == [0, 0]


def test_the_target_follows_a_sparsity_that_is_drawn(tmp_path: Path) -> None:
    model = build(segmentor_cfg(0.5))
    seen = []

    class Watch(Notes):
        priority = 'ABOVE_NORMAL'

        def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
            backbone = runner.model.backbone
            targets = {site: 1 - value for site, value in zip(backbone.sites, backbone.sparsity) if value}
            ratios = [backbone.keep_ratios[site] for site in targets]
            seen.append(keep_ratio_loss(ratios, list(targets.values())).item() if targets else 0.0)

    adaptation = dict(type='sparsevit_mm.SparsityAdaptationHook', choices=(0.0, 0.25, 0.75), seed=1)
    runner = run(tmp_path, model, [HOOK | dict(weight=1.0), adaptation, Watch()], iters=6)
    assert [losses['loss_keep_ratio'] for losses in runner.losses] == pytest.approx(seen, rel=1e-5)


def test_it_is_over_with_the_training(tmp_path: Path) -> None:
    model = build(segmentor_cfg())
    for folder in ('first', 'second'):
        notes = Notes()
        runner = run(tmp_path / folder, model, [HOOK, notes])
        term = keep_ratio_loss(list(notes.ratios[-1].values()), [0.5, 0.5])
        assert runner.losses[-1]['loss_keep_ratio'] == pytest.approx(2 * term.item(), rel=1e-5)
        assert 'loss_keep_ratio' not in losses_of(model)


def test_an_interrupted_training_leaves_nothing_for_the_next(tmp_path: Path) -> None:
    class Interrupt(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, *args, **kwargs) -> None:
            raise KeyboardInterrupt

    model = build(segmentor_cfg())
    runner = run(tmp_path, model, [HOOK, Interrupt()], train=False)
    hook = hook_of(runner, KeepRatioLossHook)
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert 'loss_keep_ratio' in losses_of(model)
    hook.before_train(runner)
    assert 'loss_keep_ratio' in losses_of(model)  # a second one would be refused
    hook.after_train(runner)
    assert 'loss_keep_ratio' not in losses_of(model)


def losses_of(model: torch.nn.Module) -> dict:
    return model.train()(**model.data_preprocessor(batch(), training=True), mode='loss')


def test_copies_and_other_modes_have_no_such_term(tmp_path: Path) -> None:
    copies = {}

    class Copy(Hook):
        def before_train(self, runner: Runner) -> None:
            copies['early'] = hook_of(runner, EMAHook).ema_model.module

        def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
            if runner.iter == 1:
                copies['late'] = copy.deepcopy(runner.model)
                copies['own'] = losses_of(runner.model)
                copies['prediction'] = runner.model.val_step(batch())

    run(tmp_path, build(segmentor_cfg()), [HOOK, dict(type='EMAHook'), Copy()])
    assert 'loss_keep_ratio' in copies['own']
    for name in ('early', 'late'):
        assert set(losses_of(copies[name])) == {'decode.loss_ce', 'decode.acc_seg'}
    assert len(copies['prediction']) == 2 and copies['prediction'][0].pred_sem_seg.data.shape == (1, 64, 64)


def test_validation_during_training(tmp_path: Path) -> None:
    runner = run(
        tmp_path, build(segmentor_cfg()), [HOOK], iters=4, train_cfg=dict(by_epoch=False, max_iters=4, val_interval=2)
    )
    assert all(losses['loss_keep_ratio'] > 0 for losses in runner.losses)


def test_bfloat16_and_accumulated_gradients(tmp_path: Path) -> None:
    notes, model = Notes(), build(segmentor_cfg())
    wrapper = adam(lr=1e-3) | dict(type='sparsevit_mm.BFloat16OptimWrapper', accumulative_counts=2, emulate=True)
    runner = run(tmp_path, model, [HOOK, notes], iters=4, optim_wrapper=wrapper)
    assert all(0 < losses['loss_keep_ratio'] < 2 for losses in runner.losses)
    assert all(ratio.dtype is torch.float32 for ratios in notes.ratios for ratio in ratios.values())


def test_a_detector(tmp_path: Path) -> None:
    pytest.importorskip('mmdet')
    runner = run(tmp_path, build(detector_cfg(), 'mmdet'), [HOOK], scope='mmdet')
    assert {'loss_cls', 'loss_bbox', 'loss_keep_ratio'} <= set(runner.losses[0])


def test_two_of_them_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='loss_keep_ratio, which the losses have'):
        run(tmp_path, build(segmentor_cfg()), [HOOK, HOOK])


def test_a_backbone_that_learns_nothing(tmp_path: Path) -> None:
    model = build(segmentor_cfg(selector=dict(type='sparsevit_mm.MagnitudeSelector')))
    with pytest.raises(ValueError, match=r'SparseSwin has MagnitudeSelector.*PredictorSelector'):
        run(tmp_path, model, [HOOK])
    runner = run(tmp_path, model, [HOOK], train=False)
    assert runner.val() == {'toy/nothing': 0.0}  # the hook may stay in a config for a control


def test_a_dense_backbone(tmp_path: Path) -> None:
    cfg = segmentor_cfg()
    cfg['backbone'] = {key: value for key, value in cfg['backbone'].items() if key not in ('sparsity', 'selector')}
    cfg['backbone']['type'] = 'SwinTransformer'
    with pytest.raises(ValueError, match='no sparse backbone'):
        run(tmp_path, build(cfg), [HOOK])


@pytest.mark.parametrize('options', [dict(weight=0), dict(weight='2'), dict(weight=True), dict(reduction='mean')])
def test_wrong_options(options: dict) -> None:
    with pytest.raises(ValueError, match=f'{next(iter(options))} of KeepRatioLossHook'):
        ROOT_HOOKS.build(HOOK | options)
