"""Rows as a table, for Markdown and for a terminal."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING

from ..plan import Claim
from .claims import Verdict
from .rows import ResultRow

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ['claims_markdown', 'losses_markdown', 'parts_markdown', 'rich_rows', 'rows_markdown']

NOTHING = '–'
LEFT = 1  # columns on the left


def rows_markdown(rows: Sequence[ResultRow], metric: str) -> str:
    """A Markdown table.

    Args:
        rows: What is in it.
        metric: Head of the column of the metric.
    """
    head, *lines = _cells(rows, metric)
    return '\n'.join([_joined(head), _rule(len(head)), *map(_joined, lines)])


def rich_rows(rows: Sequence[ResultRow], metric: str, title: str) -> 'Table':
    """The same for a terminal."""
    from rich.table import Table

    head, *lines = _cells(rows, metric)
    table = Table(title=title)
    for number, column in enumerate(head):
        table.add_column(column, justify='left' if number < LEFT else 'right')
    for line in lines:
        table.add_row(*line)
    return table


def claims_markdown(verdicts: Iterable[Verdict]) -> str:
    """What holds, with the differences of the seeds."""
    lines = ['| claim | at | difference wanted | found, mean | seeds | latencies | |', '|---|--:|--:|--:|--:|--:|---|']
    for verdict in verdicts:
        claim = verdict.claim
        cells = (
            claim.text,
            _budget(claim),
            f'≥ {signed(claim.least)}',
            NOTHING if verdict.mean is None else signed(verdict.mean, digits=2),
            ', '.join(map(signed, verdict.differences)) or NOTHING,
            _latencies(verdict),
            f'**{verdict.word}**',
        )
        lines.append(_joined(cells))
    return '\n'.join(lines)


def losses_markdown(rows: Iterable[tuple[str, ResultRow]], metric: str) -> str:
    """Rows of several suites whose metrics are differences.

    Args:
        rows: With what their suite is called.
        metric: Head of the column of the differences.
    """
    lines = [
        f'|  | chapter | {metric} | seeds | backbone latency | whole model |',
        '|---|---|--:|--:|--:|--:|',
    ]
    for title, row in rows:
        latencies = _share(row.backbone.values()), _share(row.whole.values())
        lines.append(_joined((row.name, title, *_differences(tuple(row.metrics.values())), *latencies)))
    return '\n'.join(lines)


def parts_markdown(verdicts: Iterable[tuple[str, str, Verdict]]) -> str:
    """What parts are worth.

    Args:
        verdicts: With the part that they are about and what their suite is called.
    """
    lines = [
        '| part | chapter | with | without | at | difference | seeds | latencies |',
        '|---|---|---|---|--:|--:|--:|--:|',
    ]
    for part, title, verdict in verdicts:
        claim = verdict.claim
        differences = _differences(verdict.differences)
        lines.append(_joined((part, title, claim.of, claim.against, _budget(claim), *differences, _latencies(verdict))))
    return '\n'.join(lines)


def signed(value: float, digits: int = 1) -> str:
    """A difference of metrics: ``+1.2``, ``−0.4``."""
    text = f'{value:+.{digits}f}'.replace('-', '−')
    return text if float(text[1:]) else text[1:]


def _cells(rows: Sequence[ResultRow], metric: str) -> Iterator[tuple[str, ...]]:
    yield '', metric, 'seeds', 'MMACs', 'backbone latency', 'whole model'
    seeds = sorted({seed for row in rows for seed in row.metrics})
    for row in rows:
        yield (
            row.name,
            f'{row.mean:.1f}' if row.spread is None else f'{row.mean:.1f} ± {row.spread:.1f}',
            ', '.join(f'{row.metrics[seed]:.1f}' if seed in row.metrics else NOTHING for seed in seeds),
            f'{mean(row.macs.values()) / 1e6:.0f}',
            _share(row.backbone.values()),
            _share(row.whole.values()),
        )


def _budget(claim: Claim) -> str:
    return NOTHING if claim.budget is None else f'{claim.budget:.0%}'


def _latencies(verdict: Verdict) -> str:
    return NOTHING if verdict.latencies is None else ' and '.join(f'{share:.2f}' for share in verdict.latencies)


def _differences(values: Sequence[float]) -> tuple[str, str]:
    """Their mean with the standard deviation, and each."""
    spread = f' ± {stdev(values):.1f}' if len(values) > 1 else ''
    return signed(mean(values)) + spread, ', '.join(map(signed, values))


def _share(ratios: Iterable[float]) -> str:
    """The mean of the seeds, and their range where they differ."""
    values = list(ratios)
    if not values:
        return NOTHING
    least, greatest = f'{min(values):.2f}', f'{max(values):.2f}'
    return f'{mean(values):.2f}' + (f' ({least} to {greatest})' if least != greatest else '')


def _joined(cells: Iterable[str]) -> str:
    return f'| {" | ".join(cells)} |'


def _rule(columns: int) -> str:
    return f'|{"|".join("---" if number < LEFT else "--:" for number in range(columns))}|'
