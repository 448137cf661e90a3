"""The figures of suites as lines of one table, each of ours against stock and against ours dense."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .benchmark_row import sparsity_text
from .benchmark_table import format_ms
from .suite_file import CaseResult, read_suite_file

__all__ = ['COLUMNS', 'Line', 'markdown_lines', 'read_lines']

NOTHING = '–'


@dataclass(frozen=True)
class Line:
    """A row of ours in a suite.

    Args:
        file: Where it is from.
        suite: The suite.
        case: Name of the case, ``swin-t_800x1344_b1_float32_eager``.
        backbone: Class of our backbone.
        shape: Height and width in pixels.
        batch: Images in one forward.
        dtype: Of the arithmetic.
        mode: How backbones were run.
        sparsity: One float a site.
        row: Ours, as the report has it.
        stock: The stock model's row of the same mode, if it ran.
        dense: Ours at sparsity 0 of the same mode, if it ran.
    """

    file: Path
    suite: str
    case: str
    backbone: str
    shape: tuple[int, int]
    batch: int
    dtype: str
    mode: str
    sparsity: tuple[float, ...]
    row: Mapping[str, Any]
    stock: Mapping[str, Any] | None
    dense: Mapping[str, Any] | None

    @property
    def model(self) -> str:
        """Name of what was timed, as the suite has it."""
        return self.case.partition('_')[0]

    @property
    def seconds(self) -> float | None:
        """Median latency of ours."""
        return _median(self.row)

    @property
    def stock_seconds(self) -> float | None:
        """Median latency of the stock model."""
        return _median(self.stock)

    @property
    def speed_up(self) -> float | None:
        """Over the stock model."""
        return _ratio(self.stock_seconds, self.seconds)

    @property
    def over_dense(self) -> float | None:
        """Speed-up over ours at sparsity 0."""
        return _ratio(_median(self.dense), self.seconds)

    @property
    def macs_ratio(self) -> float | None:
        """MACs of the stock model over ours; over those of ours dense where there is no stock model."""
        full = self.stock or self.dense
        return _ratio(full and full['macs'], self.row['macs'])

    @property
    def memory_share(self) -> float | None:
        """Peak memory over that of the stock model."""
        return _ratio(_memory(self.row), _memory(self.stock))


# Head of a column -> its cell. The first column is on the left.
COLUMNS = {
    'backbone': lambda line: f'[{line.backbone}, {line.model}](../benchmarks/{line.file.name})',
    'size': lambda line: f'{line.shape[0]}x{line.shape[1]}',
    'batch': lambda line: str(line.batch),
    'dtype': lambda line: line.dtype,
    'mode': lambda line: line.mode,
    'sparsity': lambda line: sparsity_text(line.sparsity, ', '),
    'stock': lambda line: milliseconds(line.stock_seconds),
    'ours': lambda line: 'does not run' if line.seconds is None else milliseconds(line.seconds),
    'over stock': lambda line: times(line.speed_up),
    'over ours dense': lambda line: times(line.over_dense),
    'MACs ratio': lambda line: NOTHING if line.macs_ratio is None else f'{line.macs_ratio:.2f}',
    'realised': lambda line: percent(line.row['realised_share']),
    'peak memory': lambda line: percent(line.memory_share),
}
TEXT = ('backbone', 'size', 'batch', 'dtype', 'mode', 'sparsity')


def read_lines(path: Path) -> tuple[dict[str, Any], list[Line], list[CaseResult]]:
    """Environment, lines and failed cases of the file of a suite.

    Raises:
        ValueError: If it is none.
        OSError: If it cannot be opened.
    """
    suite, environment, results = read_suite_file(path)
    try:
        lines = [
            line
            for result in results
            if result.error is None
            for line in _lines(path, suite, result.name, result.report)
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f'{path} has a report that cannot be read: {error} is missing or wrong.') from error
    return environment, lines, [result for result in results if result.error is not None]


def markdown_lines(
    lines: Iterable[Line], columns: Mapping[str, Any] = COLUMNS, text: Sequence[str] = TEXT, *, head: bool = True
) -> Iterator[str]:
    """A Markdown table.

    Args:
        lines: What is in it.
        columns: Heads and the functions that give cells.
        text: Heads of columns on the left.
        head: Whether the two lines of the head come first.
    """
    if head:
        yield _joined(columns)
        yield f'|{"|".join("---" if name in text else "--:" for name in columns)}|'
    for line in lines:
        yield _joined(cell(line) for cell in columns.values())


def milliseconds(seconds: float | None) -> str:
    """For a cell."""
    return NOTHING if seconds is None else f'{format_ms(seconds)} ms'


def times(ratio: float | None) -> str:
    """For a cell."""
    return NOTHING if ratio is None else f'{ratio:.2f}x'


def percent(share: float | None) -> str:
    """For a cell."""
    return NOTHING if share is None else f'{share:.0%}'


def _lines(path: Path, suite: str, case: str, report: Mapping[str, Any]) -> Iterator[Line]:
    environment = report['environment']
    for row in report['rows']:
        if row['sparsity'] is None:
            continue
        same = [
            other
            for other in report['rows']
            if other['latency'] and (other['architecture'], other['mode']) == (row['architecture'], row['mode'])
        ]
        yield Line(
            file=path,
            suite=suite,
            case=case,
            backbone=row['model'],
            shape=tuple(environment['shape']),
            batch=environment['batch'],
            dtype=environment['dtype'],
            mode=row['mode'],
            sparsity=tuple(row['sparsity']),
            row=row,
            stock=next((other for other in same if other['sparsity'] is None), None),
            dense=next((other for other in same if other['sparsity'] is not None and not any(other['sparsity'])), None),
        )


def _joined(cells: Iterable[str]) -> str:
    return f'| {" | ".join(cells)} |'


def _median(row: Mapping[str, Any] | None) -> float | None:
    return row['latency']['median'] if row and row['latency'] else None


def _memory(row: Mapping[str, Any] | None) -> int | None:
    return row['latency']['peak_memory'] if row and row['latency'] else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below
