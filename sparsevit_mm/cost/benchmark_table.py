"""The table of a benchmark on a terminal."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .benchmark_row import Row

if TYPE_CHECKING:
    from rich.table import Table

    from .benchmark_report import BenchmarkReport

__all__ = ['format_ms', 'table_of']

LEFT = ('config', 'backbone', 'mode', 'sparsity')


def table_of(report: 'BenchmarkReport') -> 'Table':
    """A rich table, a row a line; columns are there where a row has something for them."""
    from rich import box
    from rich.table import Table

    title = report.environment.describe() + ', training step' * report.training
    table = Table(title=title, title_justify='left', box=box.SIMPLE_HEAD)
    columns = _columns(report)
    for column in columns:
        table.add_column(column, justify='left' if column in LEFT else 'right', overflow='fold')
    for row in report.rows:
        table.add_row(*(cell(row) for cell in columns.values()))
    return table


def _columns(report: 'BenchmarkReport') -> dict[str, Callable[[Row], str]]:
    rows = report.rows
    columns: dict[str, Callable[[Row], str]] = {
        'config': lambda row: row.config,
        'backbone': lambda row: f'stock {row.model}' if row.sparsity is None else row.model,
        'mode': lambda row: row.mode,
        'sparsity': lambda row: row.sparsity_text,
        'GMACs': lambda row: '-' if row.macs is None else f'{row.macs / 1e9:.2f}',
        'ms': lambda row: 'error' if row.latency is None else format_ms(row.latency.median),
        'quartiles': _quartiles,
        'peak MB': _megabytes,
        'speed-up': lambda row: _times(report.speed_up(row)),
        'realised': lambda row: _percent(report.realised_share(row)),
        'backbone share': lambda row: _percent(report.backbone_share(row)),
        'compile s': lambda row: '-' if row.compile_seconds is None else f'{row.compile_seconds:.1f}',
        'roof ms': lambda row: '-' if row.roof is None else format_ms(row.roof.median),
        'distance': lambda row: _times(row.distance),
    }
    wanted = {
        'config': len({row.config for row in rows}) > 1,
        'mode': any(row.mode != 'eager' for row in rows),
        'backbone share': report.whole_model,
        'compile s': any(row.compile_seconds is not None for row in rows),
        'roof ms': any(row.roof is not None for row in rows),
        'distance': any(row.roof is not None for row in rows),
    }
    return {name: cell for name, cell in columns.items() if wanted.get(name, True)}


def format_ms(seconds: float) -> str:
    """Milliseconds with three digits or all before the point."""
    value = seconds * 1e3
    return f'{value:.{2 if value < 10 else 1 if value < 100 else 0}f}'


def _quartiles(row: Row) -> str:
    return '-' if row.latency is None else f'{format_ms(row.latency.q1)} - {format_ms(row.latency.q3)}'


def _megabytes(row: Row) -> str:
    memory = row.latency and row.latency.peak_memory
    return '-' if memory is None else f'{memory / 1e6:.1f}'


def _times(ratio: float | None) -> str:
    return '-' if ratio is None else f'{ratio:.2f}x'


def _percent(share: float | None) -> str:
    return '-' if share is None else f'{share:.0%}'
