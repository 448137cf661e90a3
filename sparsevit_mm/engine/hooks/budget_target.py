"""Training for a latency budget: the sparsity that a table of the device gives, before anything is trained."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.runner import Runner

from ...budget import Budget, format_cost
from ...models import SparseBackbone, find_sparse_backbone
from .common import unwrap
from .fitted_config import write_fitted_config

__all__ = ['BudgetTarget']


@dataclass(frozen=True)
class BudgetTarget:
    """A latency budget, and what the sparsity for it is taken from.

    Args:
        budget: A fraction of the dense latency (``0.6``, ``'60%'``), or a time (``'30ms'``).
        table: A :class:`~sparsevit_mm.cost.LatencyTable` as a dict, or its file.
        conditions: What the table must have been measured under: some of ``device_name``, ``device``, ``dtype``,
            ``batch``, ``shape`` and ``threads``. Without a ``device_name`` it must be of this machine.
        margin: Fraction of the budget that is kept free; None for that of
            :func:`~sparsevit_mm.cost.fit_to_budget`.
        out: Name of the config file that is written into the work dir; it has the fitted sparsity.
        weights: How much dropping at a site matters, one value a site; all the same if not given.

    Raises:
        ValueError: If an option is not valid.
    """

    budget: float | str | Budget
    table: str | os.PathLike | Mapping[str, Any]
    conditions: Mapping[str, Any] = field(default_factory=dict)
    margin: float | None = None
    out: str = 'fitted_config.py'
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        Budget.parse(self.budget, 's')
        if not isinstance(self.table, str | os.PathLike | Mapping):
            raise ValueError(
                f'table of KeepRatioLossHook must be a file of tools/latency_table.py, or what it holds as a dict, got '
                f'{self.table!r}.'
            )
        if not isinstance(self.conditions, Mapping):
            raise ValueError(
                f'conditions of KeepRatioLossHook must be a dict, such as dict(shape=(512, 512)), got '
                f'{self.conditions!r}.'
            )
        if not isinstance(self.out, str) or Path(self.out).name != self.out or not self.out.endswith('.py'):
            raise ValueError(f'out of KeepRatioLossHook must be a file name that ends in .py, got {self.out!r}.')

    def apply(self, runner: Runner) -> None:
        """Set the sparsity of the model, say so, and write the config that has it.

        In a run without training nothing is set: such a run is at the sparsity of its config, and a warning says so.

        Raises:
            ValueError: If the table cannot be read or is of something else, the budget cannot be kept, or another hook
                sets a sparsity of its own.
        """
        backbone = find_sparse_backbone(unwrap(runner.model))
        if runner.optim_wrapper is None or isinstance(runner.optim_wrapper, dict):
            print_log(
                f'KeepRatioLossHook fits a sparsity to {self.budget!r} in training only; this run is at that of its '
                f'config, {_listed(backbone.sparsity)}. To test what was trained, take the {self.out} that the '
                f'training wrote.',
                'current',
                logging.WARNING,
            )
            return
        _refuse_other_targets(runner)
        sparsity, line = self._fit(backbone)
        backbone.sparsity = sparsity
        print_log(line, 'current')
        write_fitted_config(runner, sparsity, line, self.out)

    def _fit(self, backbone: SparseBackbone) -> tuple[tuple[float, ...], str]:
        """The sparsity, and a line about it."""
        from ...cost import LatencyTable, fit_to_budget

        given = isinstance(self.table, Mapping)
        table = LatencyTable.from_dict(self.table) if given else LatencyTable.load(self.table)
        environment = table.environment
        wanted = dict(self.conditions)
        if 'device_name' not in wanted:
            wanted['device_name'] = _own_name(environment.device)
        try:
            table.require(backbone, **wanted)
        except ValueError as error:
            raise ValueError(
                f'KeepRatioLossHook cannot use its table. {error} A model that is trained here for the device of the '
                f'table needs conditions=dict(device_name={environment.device_name!r}).'
            ) from error
        sparsity = fit_to_budget(table, self.budget, weights=self.weights, margin=self.margin)
        seconds, limit = table.predict(sparsity), Budget.parse(self.budget, 's').limit(table.dense)
        sites = ', '.join(f'{site} {value:g}' for site, value in zip(backbone.sites, sparsity))
        line = (
            f'Sparsity fitted to {format_cost(limit, "s")}: {sites}; predicted are {format_cost(seconds, "s")}, '
            f'{seconds / table.dense:.1%} of dense, on {environment.describe()}.'
        )
        return sparsity, line


def _own_name(device: str) -> str:
    """The name of this machine's device of a kind; empty, so that it fits no table, where there is none."""
    from ...cost import Environment

    kind = device.partition(':')[0]
    if kind != 'cpu' and not (kind == 'cuda' and torch.cuda.is_available()):
        return f'no {device} device here'
    return Environment.current(device=kind, dtype='float32', batch=1, shape=(1, 1)).device_name


def _refuse_other_targets(runner: Runner) -> None:
    from .sparsity_schedule_hook import SparsityScheduleHook

    for hook in runner.hooks:
        if isinstance(hook, SparsityScheduleHook) and getattr(hook, 'target', None) is not None:
            raise ValueError(
                f'SparsityScheduleHook has target={hook.target!r}, and KeepRatioLossHook fits another one to its '
                f'budget: leave the target of the schedule out, which then ends at the fitted sparsity.'
            )


def _listed(sparsity: tuple[float, ...]) -> str:
    return ', '.join(f'{value:g}' for value in sparsity)
