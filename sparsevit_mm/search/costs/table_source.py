"""Where the latency table of a study comes from: a file, an earlier start that was cut off, or a measurement."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.logging import print_log

from ...budget import format_cost

if TYPE_CHECKING:
    from torch import nn

    from ...cost import LatencyTable

__all__ = ['ROUNDS', 'TABLE_FILE', 'GivenTable', 'measured_table']

TABLE_FILE = 'latency_table.json'
ROUNDS = (3, 10)  # the fewest and the most of a measurement whose number of rounds is not given
ENOUGH_SECONDS = 240.0  # that such a measurement may take before the number of rounds falls
MEAN_SHARE = 0.7  # of the dense latency that a pass of a measurement takes, on average over its settings


@dataclass(frozen=True)
class GivenTable:
    """A table that the user gives.

    Args:
        path: Its file.
        foreign: Whether it may be of another device than this one.
    """

    path: str | Path
    foreign: bool = False

    @cached_property
    def table(self) -> 'LatencyTable':
        """The table.

        Raises:
            ValueError: If it cannot be read.
        """
        from ...cost import LatencyTable

        return LatencyTable.load(self.path)

    def check(self, backbone: 'nn.Module', conditions: dict[str, Any], greatest: float) -> None:
        """See that it is of a backbone, under conditions, and up to a sparsity.

        Raises:
            ValueError: If it is not.
        """
        self.table.require(backbone, **conditions)
        most = self.table.choices[-1]
        if greatest > most:
            raise ValueError(
                f'latency table {str(self.path)!r} was measured up to sparsity {most:g}, but the search may choose '
                f'{greatest:g}: give --choices up to {most:g}, or measure a table with greater ones by '
                f'tools/latency_table.py.'
            )

    def here(self, backbone: 'nn.Module') -> 'LatencyTable':
        """The table, seen to be of this machine unless it is foreign.

        Raises:
            ValueError: If it is of another device.
        """
        from ...cost.table_device import conditions_here

        if not self.foreign:
            try:
                self.table.require(backbone, **conditions_here(self.table))
            except ValueError as error:
                raise ValueError(f'{error} To search from here for the device of the table, give --foreign.') from error
        return self.table


def measured_table(
    backbone: 'nn.Module',
    choices: tuple[float, ...],
    conditions: dict[str, Any],
    *,
    check: int,
    rounds: int | None,
    folder: Path | None,
    progress: Callable[[int, int], None] | None,
) -> 'LatencyTable':
    """A new table, or that of an earlier start under the same conditions.

    Args:
        backbone: One of ours.
        choices: Sparsities, ascending from 0.
        conditions: ``shape``, ``batch``, ``dtype`` and ``device``.
        check: Random settings to check it with.
        rounds: Of the measurement, None for as many as a few minutes allow.
        folder: Where it is kept as soon as it is measured, and looked for before; None for nowhere.
        progress: See :func:`sparsevit_mm.cost.measure_latency_table`.

    Raises:
        ValueError: If nothing can be measured under the conditions.
    """
    from ...cost import measure_latency_table

    file = None if folder is None else folder / TABLE_FILE
    if file is not None and (kept := _kept(file, backbone, choices, conditions, check, rounds)) is not None:
        print_log(f'taking up {file}, which was measured under the same conditions', logger='current')
        return kept
    rounds = _schedule(backbone, choices, conditions, check, rounds)
    table = measure_latency_table(
        backbone, choices=choices, rounds=rounds, check=check, progress=progress, **conditions
    )
    if file is not None:
        table.save(file)
    return table


def _kept(
    file: Path,
    backbone: 'nn.Module',
    choices: tuple[float, ...],
    conditions: dict[str, Any],
    check: int,
    rounds: int | None,
) -> 'LatencyTable | None':
    """The table in a file, if it is there and just what would be measured."""
    from ...cost import Environment, LatencyTable

    if not file.exists():
        return None
    try:
        table = LatencyTable.load(file)
        table.require(backbone)
    except ValueError:
        return None
    same = table.choices == choices and table.environment.same_conditions(Environment.current(**conditions))
    enough = (table.rounds or 0) >= (rounds or ROUNDS[0])
    checked = len(table.check) >= min(check, len(backbone.sparsity_space(choices)))
    return table if same and enough and checked else None


def _schedule(
    backbone: 'nn.Module', choices: tuple[float, ...], conditions: dict[str, Any], check: int, rounds: int | None
) -> int:
    """The number of rounds, and a line in the log about how long they take."""
    from ...cost import measure_latency
    from ...cost.measure_table import passes_of_a_round

    once = measure_latency(backbone, sparsities=[0.0], rounds=1, min_round_time=0.0, warmup=1, **conditions)[0].median
    passes = passes_of_a_round(backbone, choices, check)
    fewest, most = ROUNDS
    seconds = MEAN_SHARE * once * passes
    rounds = rounds or max(fewest, min(most, int(ENOUGH_SECONDS / seconds)))
    minutes = seconds * rounds / 60
    print_log(
        f'measuring the latency table: {rounds} rounds of {passes} passes, of which the dense one takes '
        f'{format_cost(once, "s")}: {f"about {minutes:.0f} min" if minutes >= 1 else "less than a minute"}',
        logger='current',
    )
    return rounds
