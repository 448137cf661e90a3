"""What a benchmark found: ratios, sentences, JSON."""

from dataclasses import dataclass
from typing import Any

from .benchmark_row import Row
from .benchmark_table import format_ms, table_of
from .environment import Environment
from .modes import MODE_NOTES
from .roof import ROOF_NOTE

__all__ = ['BenchmarkReport', 'Row']

WIDE_SPREAD = 0.05
FIXED_COUNT = 'Weights are random: with a fixed number of kept units the latency does not depend on them.'


@dataclass(frozen=True)
class BenchmarkReport:
    """Rows measured against each other; the first one that ran is what speed-ups refer to.

    Args:
        scope: What was timed, in words.
        environment: Where and how.
        rows: At least one that ran.
        images: Real ones that were run; 0 for noise.
        training: Whether calls are training steps.
        remarks: What else there is to know, such as why there is no stock row.
    """

    scope: str
    environment: Environment
    rows: tuple[Row, ...]
    images: int = 0
    training: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def ran(self) -> list[Row]:
        """The rows that were timed."""
        return [row for row in self.rows if row.latency is not None]

    @property
    def whole_model(self) -> bool:
        """Whether rows hold the backbone's latency beside that of the whole."""
        return any(row.backbone_latency is not None for row in self.rows)

    def speed_up(self, row: Row) -> float | None:
        """Median latency of the first row that ran over that of this one."""
        return row.latency and self.ran[0].latency.median / row.latency.median

    def macs_ratio(self, row: Row) -> float | None:
        """MACs of the first row that ran over those of this one."""
        return row.macs and self.ran[0].macs / row.macs

    def dense_rows(self, row: Row) -> list[Row]:
        """The dense rows that a row may be held against, of its mode: ours at sparsity 0 first, then stock."""
        same = [
            other
            for other in self.ran
            if other.architecture == row.architecture and other.mode == row.mode and other.dense
        ]
        return sorted(same, key=lambda other: other.sparsity is None)

    def realised_share(self, row: Row) -> float | None:
        """How much of what the MACs promise the clock gives.

        ``(dense latency / latency) / (dense MACs / MACs)``, dense being our model at sparsity 0 if it was measured and
        else the stock one; None for dense rows, rows that did not run and where there is no dense one.
        """
        dense = self.dense_rows(row)
        if row.dense or row.latency is None or not dense:
            return None
        return (dense[0].latency.median / row.latency.median) / (dense[0].macs / row.macs)

    def backbone_share(self, row: Row) -> float | None:
        """Fraction of the latency of a whole model that is its backbone."""
        return row.backbone_latency and row.backbone_latency.median / row.latency.median

    def findings(self) -> list[str]:
        """A sentence for every sparse row that is not clearly faster than dense."""
        sentences = []
        for row in self.ran:
            dense = min(self.dense_rows(row), key=lambda other: other.latency.median, default=None)
            if row.dense or dense is None:
                continue
            times = f'{format_ms(row.latency.median)} ms, and {dense.name} takes {format_ms(dense.latency.median)} ms'
            if row.latency.median >= dense.latency.median:
                sentences.append(f'{row.name} is not faster than dense here: it takes {times}.')
            elif row.latency.q3 >= dense.latency.q1:
                sentences.append(f'{row.name} is faster than dense by less than the spread here: it takes {times}.')
        return sentences

    def failures(self) -> list[str]:
        """A sentence for every row that did not run."""
        return [f'{row.name} ({row.config}) {row.error}' for row in self.rows if row.latency is None]

    def warnings(self) -> list[str]:
        """A sentence if there are rows whose quartiles lie far apart."""
        several = len({row.config for row in self.rows}) > 1
        wide = [
            f'{row.name}{f" ({row.config})" * several} {row.latency.spread:.0%}'
            for row in self.ran
            if row.latency.spread > WIDE_SPREAD
        ]
        if not wide:
            return []
        return [
            f'The spread is wide: quartiles lie more than {WIDE_SPREAD:.0%} of the median apart for {"; ".join(wide)}. '
            f'Something else keeps this machine busy, or its clock changes. Trust the ratios more than the seconds, '
            f'or give more rounds.'
        ]

    def notes(self) -> list[str]:
        """How to read the figures."""
        first = self.ran[0]
        notes = [
            f'Timed is {self.scope}.',
            f'Medians and quartiles over {first.latency.runs} interleaved rounds after {first.latency.warmup} warm-up '
            f'calls.',
            f'Speed-up is over the first row{" that ran" * (first is not self.rows[0])}, {first.name}.',
        ]
        if any(self.realised_share(row) is not None for row in self.rows):
            notes.append(
                'Realised is (dense latency / latency) / (dense MACs / MACs), dense being our backbone at sparsity 0 '
                'where it is in the table, else the stock one.'
            )
        notes.append('Peak memory is the most bytes of tensors held at once beyond weights and input.')
        notes += [note for mode, note in MODE_NOTES.items() if any(row.mode == mode for row in self.rows)]
        shares = [row.roof_share for row in self.rows if row.roof is not None]
        if shares:
            notes.append(f'{ROOF_NOTE} {_percents(shares)} of the MACs are in it.')
        return [*notes, *self._inputs(), *self.remarks]

    def _inputs(self) -> list[str]:
        """What was run, and what of it images decided."""
        if not self.images:
            return [FIXED_COUNT]
        notes = [f'Run were {self.images} images, resized; figures are means of a batch over them.']
        for row in self.rows:
            if row.kept:
                shares = ', '.join(f'{site} {share:.3f}' for site, share in row.kept.items())
                notes.append(f'Counts of {row.config} are decided by its images, which kept on average: {shares}.')
        return notes

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON."""
        return {
            'scope': self.scope,
            'training': self.training,
            'environment': self.environment.to_dict(),
            'rows': [
                {
                    'config': row.config,
                    'model': row.model,
                    'architecture': row.architecture,
                    'sparsity': row.sparsity and list(row.sparsity),
                    'mode': row.mode,
                    'macs': row.macs,
                    'kept': dict(row.kept),
                    'latency': row.latency and row.latency.to_dict(),
                    'backbone_latency': row.backbone_latency and row.backbone_latency.to_dict(),
                    'compile_seconds': row.compile_seconds,
                    'roof': row.roof and row.roof.to_dict(),
                    'roof_share': row.roof_share,
                    'distance': row.distance,
                    'speed_up': self.speed_up(row),
                    'macs_ratio': self.macs_ratio(row),
                    'realised_share': self.realised_share(row),
                    'backbone_share': self.backbone_share(row),
                    'error': row.error,
                }
                for row in self.rows
            ],
            'notes': self.notes(),
            'warnings': self.warnings(),
            'findings': self.findings(),
            'failures': self.failures(),
        }

    def table(self) -> Any:
        """A rich table, a row a line."""
        return table_of(self)


def _percents(shares: list[float]) -> str:
    low, high = f'{min(shares):.0%}', f'{max(shares):.0%}'
    return low if low == high else f'{low} to {high}'
