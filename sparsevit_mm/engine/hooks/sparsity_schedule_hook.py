"""Sparsity that grows during training."""

import logging
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from ...models import SparseBackbone, find_sparse_backbone
from ...registry import HOOKS
from ..phases import MODES, OWNER, FixedPhases, parse_phases, plan_phases
from ..trials import ToleratedDrop, TrialPlan
from .common import progress
from .fitted_config import write_fitted_config
from .phase_trials import PhaseTrials
from .sparsity_adaptation_hook import SparsityAdaptationHook

__all__ = ['SparsityScheduleHook']


@HOOKS.register_module()
class SparsityScheduleHook(Hook):
    """Trains from a low sparsity to the one that the model is meant for: all sites together, or one after another.

    With ``end``, iteration (or epoch) ``begin`` is trained at ``start``, and those from ``end`` on at the target;
    between them every site goes the same part of its way. Between iterations the model is at its target: validation,
    also while sparsity still grows, and checkpoints and the model that training returns know only that one.

    With ``phases``, sites are switched on from the last one back to the first (layer-to-phase training, SPViT, arXiv
    2112.13890). A site is dense before its phase, and afterwards at its target. Validation is at what was trained
    last. Phases have a length each, or end by what the validations give::

        dict(type='sparsevit_mm.SparsityScheduleHook', by_epoch=True, phases=dict(length=2))
        dict(
            type='sparsevit_mm.SparsityScheduleHook',
            by_epoch=True,
            phases=[dict(sites='block9', length=2), dict(sites=('block6', 'block3'), begin=2, end=6)],
        )
        dict(type='sparsevit_mm.SparsityScheduleHook', phases=dict(tolerance=0.5, metric='mIoU', step=0.1))

    With a tolerance the target is the most that a site may take, and a site rises by a step after each validation whose
    metric is within tolerance of the dense model's; :class:`~sparsevit_mm.engine.trials.TrialPlan` has the rule, and
    :class:`~sparsevit_mm.engine.trials.ToleratedDrop` the options. After training the sparsity that was found, where
    it is not the configured one, is in ``fitted_config.py`` of the work dir.

    What is trained is a function of the iteration's number, or of a state that checkpoints hold, so every rank has the
    same and a resumed run goes on as an uninterrupted one. The sparsity of an iteration, averaged over the sites, is
    logged as ``train/sparsity``.

    Args:
        end: Iterations or epochs after which the target is reached.
        begin: Iterations or epochs that are trained at ``start`` before.
        start: Sparsity at the beginning, for all sites or one value a site.
        target: Sparsity at the end, likewise; None takes the one that the model is configured with.
        mode: ``'linear'`` or ``'cosine'``; with phases also ``'step'``, at the target from the beginning of a phase.
            None is ``'linear'``, with phases ``'step'``.
        by_epoch: Whether ``begin``, ``end`` and lengths count epochs; sparsity then changes once an epoch.
        phases: In the place of ``end``: a dict with ``length``, and ``begin``, for one phase a site; a list of dicts
            with ``sites``, ``length`` or ``end``, and ``begin``; or a dict with ``tolerance`` and ``metric``.
        merge: With phases: neighbouring sites of a stage whose sparsities differ by less become one, at their mean;
            0.085 in the paper. With lengths they are switched on together, with a tolerance merged after the last
            phase.

    Raises:
        ValueError: If an option is not valid, and, when training starts, if it does not fit the backbone or the loop,
            if start and target are the same, or if a SparsityAdaptationHook sets the sparsity too.
    """

    def __init__(
        self,
        end: int | None = None,
        begin: int = 0,
        start: float | Sequence[float] = 0.0,
        target: float | Sequence[float] | None = None,
        mode: str | None = None,
        by_epoch: bool = False,
        phases: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        merge: float = 0.0,
    ) -> None:
        self._trial_options: ToleratedDrop | None = None
        if isinstance(merge, bool) or not isinstance(merge, Real) or not 0 <= merge < 1:
            raise ValueError(f'merge of SparsityScheduleHook must lie in [0, 1), got {merge!r}.')
        if phases is None:
            _check_span(begin, end, merge)
            modes = tuple(MODES)
        else:
            given = dict(end=end is not None, begin=begin != 0, start=start != 0.0)
            if any(given.values()):
                names = ', '.join(name for name, is_given in given.items() if is_given)
                raise ValueError(
                    f'SparsityScheduleHook has phases and {names}: phases say when each site is switched on, from '
                    f'dense to its target; remove one or the other.'
                )
            if isinstance(phases, Mapping) and not {'length', 'begin'} & set(phases):
                self._trial_options = _parse_trials(phases, mode, by_epoch)
            else:
                phases = parse_phases(phases)
            modes = ('step', *MODES)
        mode = modes[0] if mode is None else mode
        if mode not in modes:
            raise ValueError(f'mode of SparsityScheduleHook must be one of {modes}, got {mode!r}.')
        self.begin = begin
        self.end = end
        self.start = start
        self.target = target
        self.mode = mode
        self.by_epoch = by_epoch
        self.phases = phases
        self.merge = merge
        self._plan: FixedPhases | None = None
        self._trials: PhaseTrials | None = None

    def before_train(self, runner: Runner) -> None:
        """Find the backbone and its target; checkpoints are loaded by now."""
        if any(isinstance(hook, SparsityAdaptationHook) for hook in runner.hooks):
            raise ValueError(
                'SparsityScheduleHook and SparsityAdaptationHook both set the sparsity of every iteration: remove one.'
            )
        done = progress(runner, self.by_epoch, 'SparsityScheduleHook')
        backbone = find_sparse_backbone(runner.model)
        layout = backbone.sparsity_layout
        self._ends = tuple(
            layout.normalize(value) for value in (self.start, backbone.sparsity if self.target is None else self.target)
        )
        if self._ends[0] == self._ends[1]:
            raise ValueError(
                f'SparsityScheduleHook has nothing to do: start and target are both {self._ends[0]}. Set '
                f'model.backbone.sparsity, or target.'
            )
        self._backbone, self._configured, end = backbone, backbone.sparsity, self.end
        if self.phases is not None and (self._trial_options is not None or self.mode != 'step'):
            _check_unequal(backbone)
        if self._trial_options is not None:
            self._trials = PhaseTrials(runner, TrialPlan(layout, self._ends[1], self._trial_options, self.merge))
            backbone.sparsity = self._trials.sparsity
            return
        if self.phases is not None:
            self._plan = plan_phases(layout, self._ends[1], self.phases, self.mode, self.merge)
            end = self._plan.end
        backbone.sparsity = self._ends[1] if self._plan is None else self._plan.sparsity_at(max(0, done - 1))
        whole = runner.max_epochs if self.by_epoch else runner.max_iters
        if end > whole:
            unit = 'epochs' if self.by_epoch else 'iterations'
            print_log(
                f'SparsityScheduleHook reaches its target after {end} {unit}, but training ends after {whole}.',
                'current',
                logging.WARNING,
            )

    def sparsity_at(self, step: int) -> tuple[float, ...]:
        """The sparsity of an iteration or epoch, counted from 0; known once training has started.

        Raises:
            ValueError: If phases end by tolerance: what comes then is not known.
        """
        if self._trial_options is not None:
            raise ValueError(f'{OWNER} have a tolerance: their sparsity depends on validations to come.')
        if self._plan is not None:
            return self._plan.sparsity_at(step)
        part = MODES[self.mode](min(1.0, max(0.0, (step - self.begin) / (self.end - self.begin))))
        # In this form both ends are exact and order within a stage survives rounding.
        return tuple((1 - part) * start + part * target for start, target in zip(*self._ends))

    def before_train_epoch(self, runner: Runner) -> None:
        """Run a validation that phases wait for; by now all hooks are ready for it."""
        self._catch_up(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None) -> None:
        """Set the sparsity of this iteration."""
        if self._trials is not None:
            values = self._trials.sparsity
        else:
            values = self.sparsity_at(progress(runner, self.by_epoch, 'SparsityScheduleHook'))
        self._backbone.sparsity = values
        runner.message_hub.update_scalar('train/sparsity', sum(values) / len(values))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None, outputs: dict | None = None
    ) -> None:
        """Put the model at its target, before anything validates or copies it; with phases it stays where it is."""
        if self.phases is None:
            self._backbone.sparsity = self._ends[1]

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Decide by the metric how phases go on, before a checkpoint of the best model is saved."""
        if self._trials is not None:
            self._trials.take(runner, metrics or {})

    def after_val(self, runner: Runner) -> None:
        """Put the model at what was decided."""
        if self._trials is not None:
            self._backbone.sparsity = self._trials.sparsity

    def after_train(self, runner: Runner) -> None:
        """Put the model at the end of its phases; write a config where that is not the configured sparsity."""
        if self.phases is None:
            return
        self._catch_up(runner)
        found = self._plan.target if self._trials is None else self._trials.finish(runner)
        self._backbone.sparsity = found
        if found != self._configured:
            how = '' if self._trials is None else f' with {self._trial_options}'
            sites = ', '.join(f'{site} {value:g}' for site, value in zip(self._backbone.sites, found))
            header = f'What the phases of SparsityScheduleHook came to{how}: {sites}.'
            write_fitted_config(runner, found, header, without=('SparsityScheduleHook',))
        self._trials = None

    def _catch_up(self, runner: Runner) -> None:
        if self._trials is not None:
            self._backbone.sparsity = self._trials.sparsity
            self._trials.catch_up(runner)


def _check_unequal(backbone: SparseBackbone) -> None:
    """Looks whether sites of a stage can be at several sparsities, as they are while one of them changes."""
    layout = backbone.sparsity_layout
    try:
        backbone.check_sparsity(tuple((i + 1) / (size + 1) for size in layout.groups for i in range(size)))
    except ValueError as error:
        raise ValueError(
            f"{OWNER} with tolerance, or with mode='linear' or 'cosine', give sites of a stage several sparsities: "
            f'{error} Or give phases with length and the default mode.'
        ) from error


def _check_span(begin: int, end: int | None, merge: float) -> None:
    for option, value, least in (('begin', begin, 0), ('end', end, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(
                f'{option} of SparsityScheduleHook must be an integer from {least} on, got {value!r}; or give phases.'
            )
    if end <= begin:
        raise ValueError(f'end={end} of SparsityScheduleHook must be greater than begin={begin}.')
    if merge:
        raise ValueError(f'merge={merge} of SparsityScheduleHook is for phases: give phases in the place of end.')


def _parse_trials(phases: Mapping[str, Any], mode: str | None, by_epoch: bool) -> ToleratedDrop:
    if 'tolerance' not in phases:
        raise ValueError(
            f'{OWNER} need length, a number of epochs or iterations, or tolerance and metric, got {dict(phases)!r}.'
        )
    if mode is not None or by_epoch:
        option = f'mode={mode!r}' if mode is not None else 'by_epoch=True'
        raise ValueError(
            f'{OWNER} with tolerance go on with validations, which val_interval of the loop sets: remove {option}.'
        )
    return ToleratedDrop.parse(phases)
