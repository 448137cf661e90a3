"""Sparsity that grows during training."""

import logging
import math
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from ...models import find_sparse_backbone
from ...registry import HOOKS
from .common import progress
from .sparsity_adaptation_hook import SparsityAdaptationHook

__all__ = ['SparsityScheduleHook']

MODES = {'linear': lambda part: part, 'cosine': lambda part: (1 - math.cos(math.pi * part)) / 2}


@HOOKS.register_module()
class SparsityScheduleHook(Hook):
    """Trains from a low sparsity to the one that the model is meant for.

    Iteration (or epoch) ``begin`` is trained at ``start``, and those from ``end`` on at the target; between them every
    site goes the same part of its way. The value is a function of the iteration's number alone, so every rank has the
    same and a resumed run goes on as an uninterrupted one. Between iterations the model is at its target: validation,
    also while sparsity still grows, and checkpoints and the model that training returns know only that one. The
    sparsity of an iteration, averaged over the sites, is logged as ``train/sparsity``.

    Args:
        end: Iterations or epochs after which the target is reached.
        begin: Iterations or epochs that are trained at ``start`` before.
        start: Sparsity at the beginning, for all sites or one value a site.
        target: Sparsity at the end, likewise; None takes the one that the model is configured with.
        mode: ``'linear'`` or ``'cosine'``.
        by_epoch: Whether ``begin`` and ``end`` count epochs; sparsity then changes once an epoch.

    Raises:
        ValueError: If an option is not valid, and, when training starts, if it does not fit the backbone or the loop,
            if start and target are the same, or if a SparsityAdaptationHook sets the sparsity too.
    """

    def __init__(
        self,
        end: int,
        begin: int = 0,
        start: float | Sequence[float] = 0.0,
        target: float | Sequence[float] | None = None,
        mode: str = 'linear',
        by_epoch: bool = False,
    ) -> None:
        for option, value, least in (('begin', begin, 0), ('end', end, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f'{option} of SparsityScheduleHook must be an integer from {least} on, got {value!r}.')
        if end <= begin:
            raise ValueError(f'end={end} of SparsityScheduleHook must be greater than begin={begin}.')
        if mode not in MODES:
            raise ValueError(f'mode of SparsityScheduleHook must be one of {tuple(MODES)}, got {mode!r}.')
        self.begin = begin
        self.end = end
        self.start = start
        self.target = target
        self.mode = mode
        self.by_epoch = by_epoch

    def before_train(self, runner: Runner) -> None:
        """Find the backbone and its target; checkpoints are loaded by now."""
        if any(isinstance(hook, SparsityAdaptationHook) for hook in runner.hooks):
            raise ValueError(
                'SparsityScheduleHook and SparsityAdaptationHook both set the sparsity of every iteration: remove one.'
            )
        progress(runner, self.by_epoch, 'SparsityScheduleHook')
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
        self._backbone = backbone
        backbone.sparsity = self._ends[1]
        whole = runner.max_epochs if self.by_epoch else runner.max_iters
        if self.end > whole:
            unit = 'epochs' if self.by_epoch else 'iterations'
            print_log(
                f'SparsityScheduleHook reaches its target after {self.end} {unit}, but training ends after {whole}.',
                'current',
                logging.WARNING,
            )

    def sparsity_at(self, step: int) -> tuple[float, ...]:
        """The sparsity of an iteration or epoch, counted from 0; known once training has started."""
        part = MODES[self.mode](min(1.0, max(0.0, (step - self.begin) / (self.end - self.begin))))
        # In this form both ends are exact and order within a stage survives rounding.
        return tuple((1 - part) * start + part * target for start, target in zip(*self._ends))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None) -> None:
        """Set the sparsity of this iteration."""
        values = self.sparsity_at(progress(runner, self.by_epoch, 'SparsityScheduleHook'))
        self._backbone.sparsity = values
        runner.message_hub.update_scalar('train/sparsity', sum(values) / len(values))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None, outputs: dict | None = None
    ) -> None:
        """Put the model at its target, before anything validates or copies it."""
        self._backbone.sparsity = self._ends[1]
