"""The comparison that a quickstart ends with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.table import Table

__all__ = ['Row', 'markdown', 'rich_table']

TITLE = 'Backbone at 448x448, batch 1, float32, on this machine; mIoU on the validation pictures'


@dataclass(frozen=True)
class Row:
    """A line of the final table.

    Args:
        name: ``dense``, ``uniform`` or ``found``.
        sparsity: One float a site.
        miou: On the validation pictures, in percent.
        macs: Of the backbone for one picture.
        latency: Of the backbone for one picture, median in seconds.
        quartiles: Of the latency, in seconds.
    """

    name: str
    sparsity: tuple[float, ...]
    miou: float
    macs: int
    latency: float
    quartiles: tuple[float, float]


def _cells(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """The table's head and its lines as text; the first row is what others are compared with."""
    yield '', 'sparsity', 'mIoU', 'MMACs', 'latency (quartiles)', 'speed-up'
    for row in rows:
        yield (
            row.name,
            ', '.join(f'{s:g}' for s in row.sparsity),
            f'{row.miou:.1f}',
            f'{row.macs / 1e6:.0f}',
            f'{row.latency * 1e3:.1f} ms ({"-".join(f"{q * 1e3:.1f}" for q in row.quartiles)})',
            f'{rows[0].latency / row.latency:.2f}x',
        )


def rich_table(rows: Sequence[Row]) -> Table:
    """The comparison for a terminal."""
    head, *lines = _cells(rows)
    table = Table(title=TITLE)
    for i, column in enumerate(head):
        table.add_column(column, justify='left' if i < 2 else 'right')
    for line in lines:
        table.add_row(*line, style='bold' if line[0] == 'found' else None)
    return table


def markdown(rows: Sequence[Row]) -> str:
    """The comparison for a README."""
    head, *lines = ('| ' + ' | '.join(cells) + ' |' for cells in _cells(rows))
    return '\n'.join([f'{TITLE}:', '', head, '|---' * 2 + '|--:' * 4 + '|', *lines, ''])
