"""Latency as the cost of a setting, by a table of the device."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ...budget import format_cost
from ...sparsity import DEFAULT_CHOICES
from .table_source import ROUNDS, GivenTable, measured_table

if TYPE_CHECKING:
    from torch import nn

    from ...cost import LatencyTable

__all__ = ['TableCost']

WIDE_SPREAD = 0.1  # relative distance of the quartiles
LARGE_ERROR = 0.05  # relative, the median of those of the check


class TableCost:
    """Seconds of a forward pass: the sum of what a :class:`~sparsevit_mm.cost.LatencyTable` has for each site.

    The table is measured once for a study, or comes from a file; after that a cost is a look-up. So every process and
    every machine that works at the study agrees on what a setting costs, whatever else it is doing.

    Args:
        backbone: One of ours.
        shape: Height and width in pixels, None for those of the given table.
        batch: Images in one forward, None for those of the given table, or 1.
        dtype: ``float32``, ``bfloat16`` or ``float16``, None for that of the given table, or ``float32``.
        device: Where a table is measured, None for where the given one was, or for where the backbone is.
        choices: The sparsities that settings are made of.
        table: File of a table to use instead of measuring one.
        foreign: Whether that table may be of another device than this one.
        whole_model: The detector or segmentor around the backbone, whose time beside the backbone's is to be added.
        check: Random settings that a measured table is checked with.
        rounds: Of the measurements, None for as many as a few minutes allow.
        progress: Called with the parts done and their number, once through for the table and once for the whole model.
        folder: Where a measured table is kept, and looked for in case an earlier start was cut off.

    Raises:
        ValueError: If the given table cannot be read or does not fit, or options contradict each other.
    """

    name = 'latency'
    unit = 's'

    def __init__(
        self,
        backbone: 'nn.Module',
        shape: Sequence[int] | None,
        *,
        batch: int | None = None,
        dtype: str | None = None,
        device: str | None = None,
        choices: Sequence[float] = DEFAULT_CHOICES,
        table: str | Path | None = None,
        foreign: bool = False,
        whole_model: 'nn.Module | None' = None,
        check: int = 20,
        rounds: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        folder: str | Path | None = None,
    ) -> None:
        _check_options(shape, table, foreign, whole_model)
        self.backbone, self.choices, self.whole_model = (
            backbone,
            tuple(sorted({0.0, *map(float, choices)})),
            whole_model,
        )
        self.rounds, self.progress = rounds, progress
        self._measuring = {'check': check, 'folder': None if folder is None else Path(folder)}
        named = {'shape': shape and tuple(shape), 'batch': batch, 'dtype': dtype, 'device': device}
        asked = {key: value for key, value in named.items() if value is not None}
        defaults: dict[str, Any] = {'batch': 1, 'dtype': 'float32', 'device': next(backbone.parameters()).device.type}
        self._given = None
        if table is not None:
            self._given = GivenTable(table, foreign)
            defaults = {key: getattr(self._given.table.environment, key) for key in named}
            if foreign:
                asked.pop('device', None)
            self._given.check(backbone, asked, self.choices[-1])
        self.environment = defaults | asked
        self.table: LatencyTable | None = None
        self.model_rest = 0.0
        self._state: dict[str, Any] = {}

    def calibrate(self, state: dict | None = None) -> dict:
        """Loads or measures the table, or takes over that of a study.

        Returns:
            ``dense`` (seconds), ``table`` (its dictionary), ``source`` (where it is from), ``model_rest`` (seconds that
            are added for the whole model) and ``model`` (how these were measured, or None).

        Raises:
            ValueError: If the given table is of another device, or nothing can be measured under the conditions.
        """
        from ...cost import LatencyTable

        self._state = self._new_state() if state is None else state
        self.model_rest = self._state['model_rest']
        self.table = table = LatencyTable.from_dict(self._state['table'])
        known = [value for value in sorted({*self.choices, *table.choices}) if value <= table.choices[-1]]
        self._seconds = [
            {value: float(table.site_seconds(i, value)) for value in known} for i in range(len(table.sites))
        ]
        return self._state

    def cost(self, sparsity: float | Sequence[float]) -> float:
        """Seconds at a sparsity; linear between the choices of the table.

        Raises:
            ValueError: If the sparsity does not fit the sites, or exceeds what the table knows.
        """
        values = self.backbone.sparsity_layout.normalize(sparsity)
        try:
            seconds = self.table.rest + sum([known[value] for known, value in zip(self._seconds, values)])
        except KeyError:
            seconds = self.table.predict(values)
        return seconds + self.model_rest

    def conditions(self) -> dict:
        """What a process must have in common with a study to work at it.

        The name of the device and its threads are not among it: the table of the study is taken over, so a worker need
        not run where it was measured.
        """
        kept = {**self.environment, 'shape': list(self.environment['shape'])}
        kept['device'] = kept['device'].partition(':')[0]
        digest = {} if self._given is None else {'table': _digest(self._given.table)}
        return {**kept, 'whole_model': self.whole_model is not None, **digest}

    def describe(self) -> dict[str, str]:
        """Lines for a report, once calibrated."""
        table, errors = self.table, self.table.check_errors()
        rounds = f'; {table.rounds} rounds' if table.rounds else ''
        lines = {
            'Latency table': f'{table.environment.describe()}{rounds}; dense {format_cost(table.dense, "s")}; '
            f'{self._state["source"]}',
            'Prediction': f'off by {median(errors):.1%} (median) and at worst by {max(errors):.1%} over {len(errors)} '
            f'random settings'
            if errors
            else 'not checked',
        }
        if table.spread is not None:
            lines['Spread'] = f'quartiles {table.spread:.1%} apart'
        if model := self._state['model']:
            median_, q1, q3 = (format_cost(model[key], 's') for key in ('median', 'q1', 'q3'))
            lines['Whole model'] = (
                f'every cost includes {median_} beside the backbone: the median of {model["rounds"]} differences, '
                f'quartiles {q1} and {q3}; {model["scope"]}'
            )
        return lines

    def doubt(self) -> str | None:
        """Why the latencies are not to be trusted much, None where they are; once calibrated."""
        errors, reasons = self.table.check_errors(), []
        if (self.table.spread or 0.0) >= WIDE_SPREAD:
            reasons.append(f'they varied widely while it was measured (quartiles {self.table.spread:.0%} apart)')
        if errors and median(errors) >= LARGE_ERROR:
            reasons.append(f'its predictions of random settings are off by {median(errors):.0%} (median)')
        if not reasons:
            return None
        return (
            f'the latencies of the table are uncertain: {" and ".join(reasons)}. Was the machine busy? What is near '
            f'the budget may be over it. Free the machine, use fewer threads (OMP_NUM_THREADS), or count MACs.'
        )

    def _new_state(self) -> dict[str, Any]:
        if self._given is not None:
            table, source = self._given.here(self.backbone), str(self._given.path)
        else:
            options = {**self._measuring, 'rounds': self.rounds, 'progress': self.progress}
            table, source = (
                measured_table(self.backbone, self.choices, self.environment, **options),
                'measured when the study was begun',
            )
        model = self._measured_rest()
        rest = 0.0 if model is None else model['median']
        return {
            'dense': table.dense + rest,
            'table': table.to_dict(),
            'source': source,
            'model_rest': rest,
            'model': model,
        }

    def _measured_rest(self) -> dict[str, Any] | None:
        """What the whole model takes beside the backbone.

        It is no part of the table, which is of the backbone alone and serves whatever model is around it.
        """
        from ...cost.model_rest import measure_model_rest

        if self.whole_model is None:
            return None
        options = {**self.environment, 'rounds': self.rounds or ROUNDS[1], 'progress': self.progress}
        return measure_model_rest(self.whole_model, self.backbone, **options).to_dict()


def _check_options(
    shape: Sequence[int] | None, table: str | Path | None, foreign: bool, whole_model: 'nn.Module | None'
) -> None:
    if foreign and table is None:
        raise ValueError('foreign is about the device of a latency table: give one by --latency-table.')
    if foreign and whole_model is not None:
        raise ValueError(
            'foreign says that the latency table is of another device, but what a whole model takes beside its '
            'backbone is measured on this one: leave out --whole-model, or --foreign.'
        )
    if shape is None and table is None:
        raise ValueError('shape is missing: a latency is that of images of some height and width in pixels.')


def _digest(table: 'LatencyTable') -> str:
    return hashlib.sha256(json.dumps(table.to_dict(), sort_keys=True).encode()).hexdigest()[:16]
