"""Rows of the report: all seeds of a label and budget together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from ..plan import Row, Suite
from ..results_file import Record

__all__ = ['ResultRow', 'rows_of']


@dataclass(frozen=True)
class ResultRow:
    """Models of one label and budget.

    Args:
        label: What they are.
        budget: Latency that they are made for, as a fraction of dense; None where there is none.
        metrics: The reported metric of each seed.
        macs: MACs of the backbone for one image, of each seed.
        backbone: Latency of the backbone as a fraction of dense, of each seed that was measured.
        whole: The same of the whole model.
        sparsities: Sparsity of each seed.
        shape: Height and width in pixels.
    """

    label: str
    budget: float | None
    metrics: Mapping[int, float]
    macs: Mapping[int, int]
    backbone: Mapping[int, float]
    whole: Mapping[int, float]
    sparsities: Mapping[int, tuple[float, ...]]
    shape: tuple[int, int]

    @property
    def name(self) -> str:
        """For people."""
        return self.label if self.budget is None else f'{self.label}, {self.budget:.0%}'

    @property
    def mean(self) -> float:
        """Of the metric over the seeds."""
        return mean(self.metrics.values())

    @property
    def spread(self) -> float | None:
        """Standard deviation of the metric over the seeds; None for a single one."""
        return stdev(self.metrics.values()) if len(self.metrics) > 1 else None


def rows_of(suite: Suite, records: Mapping[str, Record]) -> list[ResultRow]:
    """The rows that there are results for, in the order of the suite.

    Args:
        suite: The suite, whose reported metric is taken.
        records: By key, those that stand.
    """
    times = _times(records)
    dense = _dense_times(suite, records, times)
    found: list[ResultRow] = []
    for row in _rows(suite):
        own = [r for r in records.values() if suite.rows.get(r.run) == row and 'metrics' in r.values]
        own = [record for record in own if suite.metric in record.values['metrics'].get(suite.split, {})]
        if own:
            found.append(_row(suite, row, sorted(own, key=lambda r: r.seed or 0), times, dense))
    return found


def _rows(suite: Suite) -> Iterable[Row]:
    """Rows in the order of the first run of their label; of one label the greatest budget first."""
    rows = dict.fromkeys(suite.rows.values())
    labels = list(dict.fromkeys(row.label for row in rows))
    return sorted(rows, key=lambda row: (labels.index(row.label), -(row.budget or 0)))


def _row(
    suite: Suite,
    row: Row,
    own: Sequence[Record],
    times: Mapping[str, Any],
    dense: Mapping[str, float],
) -> ResultRow:
    values = {record.seed or 0: record.values for record in own}
    measured = {record.seed or 0: times[record.key] for record in own if record.key in times and dense}
    return ResultRow(
        label=row.label,
        budget=row.budget,
        metrics={seed: v['metrics'][suite.split][suite.metric] * suite.scale for seed, v in values.items()},
        macs={seed: v['macs'] for seed, v in values.items()},
        backbone={seed: t['backbone']['median'] / dense['backbone'] for seed, t in measured.items()},
        whole={seed: t['whole']['median'] / dense['whole'] for seed, t in measured.items()},
        sparsities={seed: tuple(v['sparsity']) for seed, v in values.items()},
        shape=tuple(own[0].values['shape']),
    )


def _times(records: Mapping[str, Record]) -> dict[str, Any]:
    """Latencies by the key of the task, of models that have not been made again since."""
    found: dict[str, Any] = {}
    for record in records.values():
        if record.kind == 'measure':
            current = {key for key, id_ in record.needs.items() if key in records and records[key].id == id_}
            found |= {key: times for key, times in record.values['rows'].items() if key in current}
    return found


def _dense_times(suite: Suite, records: Mapping[str, Record], times: Mapping[str, Any]) -> dict[str, float]:
    """Median seconds of the dense model, empty where it was not measured."""
    for record in records.values():
        if record.run in suite.rows and suite.rows[record.run].label == suite.dense and record.key in times:
            return {part: times[record.key][part]['median'] for part in ('backbone', 'whole')}
    return {}
