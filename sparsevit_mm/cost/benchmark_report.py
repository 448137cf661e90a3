"""What a benchmark found: ratios, sentences, table, JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .environment import Environment
from .latency import LatencyRecord

__all__ = ['BenchmarkReport', 'Row']

WIDE_SPREAD = 0.05
FIXED_COUNT = 'Weights are random: with a fixed number of kept units the latency does not depend on them.'


@dataclass(frozen=True)
class Row:
    """A model at a sparsity, measured.

    Args:
        config: Name of the config.
        model: Class of the backbone.
        sparsity: One float a site; None for the stock model.
        macs: MACs of one image, counted on what ran.
        latency: Of the whole call, a batch.
        backbone_latency: Of the backbone in a whole model.
        architecture: Number that rows share whose stock models are the same.
        kept: Mean fraction of its units that each site kept, where images have counts of their own.
    """

    config: str
    model: str
    sparsity: tuple[float, ...] | None
    macs: int
    latency: LatencyRecord
    backbone_latency: LatencyRecord | None = None
    architecture: int = 0
    kept: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def dense(self) -> bool:
        """Whether everything is computed."""
        return not any(self.sparsity or ())

    @property
    def name(self) -> str:
        """The model and its sparsity for people."""
        return f'stock {self.model}' if self.sparsity is None else f'{self.model} at sparsity {self.sparsity_text}'

    @property
    def sparsity_text(self) -> str:
        """One number where all sites have the same."""
        if self.sparsity is None:
            return '-'
        values = self.sparsity[:1] if len(set(self.sparsity)) == 1 else self.sparsity
        return ','.join(f'{value:g}' for value in values)


@dataclass(frozen=True)
class BenchmarkReport:
    """Rows measured against each other; the first one is what speed-ups refer to.

    Args:
        scope: What was timed, in words.
        environment: Where and how.
        rows: At least one.
        images: Real ones that were run; 0 for noise.
    """

    scope: str
    environment: Environment
    rows: tuple[Row, ...]
    images: int = 0

    @property
    def whole_model(self) -> bool:
        """Whether rows hold the backbone's latency beside that of the whole."""
        return any(row.backbone_latency is not None for row in self.rows)

    def speed_up(self, row: Row) -> float:
        """Median latency of the first row over that of this one."""
        return self.rows[0].latency.median / row.latency.median

    def dense_rows(self, row: Row) -> list[Row]:
        """The dense rows that a row may be held against: ours at sparsity 0 first, then stock."""
        same = [other for other in self.rows if other.architecture == row.architecture and other.dense]
        return sorted(same, key=lambda other: other.sparsity is None)

    def realised_share(self, row: Row) -> float | None:
        """How much of what the MACs promise the clock gives.

        ``(dense latency / latency) / (dense MACs / MACs)``, dense being our model at sparsity 0 if it was measured and
        else the stock one; None for dense rows and where there is none.
        """
        dense = self.dense_rows(row)
        if row.dense or not dense:
            return None
        return (dense[0].latency.median / row.latency.median) / (dense[0].macs / row.macs)

    def backbone_share(self, row: Row) -> float | None:
        """Fraction of the latency of a whole model that is its backbone."""
        return row.backbone_latency and row.backbone_latency.median / row.latency.median

    def findings(self) -> list[str]:
        """A sentence for every sparse row that is not clearly faster than dense."""
        sentences = []
        for row in self.rows:
            dense = min(self.dense_rows(row), key=lambda other: other.latency.median, default=None)
            if row.dense or dense is None:
                continue
            times = f'{_ms(row.latency.median)} ms, and {dense.name} takes {_ms(dense.latency.median)} ms'
            if row.latency.median >= dense.latency.median:
                sentences.append(f'{row.name} is not faster than dense here: it takes {times}.')
            elif row.latency.q3 >= dense.latency.q1:
                sentences.append(f'{row.name} is faster than dense by less than the spread here: it takes {times}.')
        return sentences

    def warnings(self) -> list[str]:
        """A sentence if there are rows whose quartiles lie far apart."""
        several = len({row.config for row in self.rows}) > 1
        wide = [
            f'{row.name}{f" ({row.config})" * several} {row.latency.spread:.0%}'
            for row in self.rows
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
        latency = self.rows[0].latency
        notes = [
            f'Timed is {self.scope}.',
            f'Medians and quartiles over {latency.runs} interleaved rounds after {latency.warmup} warm-up calls.',
            f'Speed-up is over the first row, {self.rows[0].name}.',
            'Peak memory is the most bytes of tensors held at once beyond weights and input.',
            *self._inputs(),
        ]
        if any(self.realised_share(row) is not None for row in self.rows):
            notes.insert(
                3,
                'Realised is (dense latency / latency) / (dense MACs / MACs), dense being our backbone at sparsity 0 '
                'where it is in the table, else the stock one.',
            )
        return notes

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
            'environment': self.environment.to_dict(),
            'rows': [
                {
                    'config': row.config,
                    'model': row.model,
                    'architecture': row.architecture,
                    'sparsity': row.sparsity and list(row.sparsity),
                    'macs': row.macs,
                    'kept': dict(row.kept),
                    'latency': row.latency.to_dict(),
                    'backbone_latency': row.backbone_latency and row.backbone_latency.to_dict(),
                    'speed_up': self.speed_up(row),
                    'macs_ratio': self.rows[0].macs / row.macs,
                    'realised_share': self.realised_share(row),
                    'backbone_share': self.backbone_share(row),
                }
                for row in self.rows
            ],
            'notes': self.notes(),
            'warnings': self.warnings(),
            'findings': self.findings(),
        }

    def table(self) -> Any:
        """A rich table, a row a line."""
        from rich import box
        from rich.table import Table

        configs = len({row.config for row in self.rows}) > 1
        columns = ['config'] * configs + [
            'backbone',
            'sparsity',
            'GMACs',
            'ms',
            'quartiles',
            'peak MB',
            'speed-up',
            'realised',
        ]
        table = Table(title=self.environment.describe(), title_justify='left', box=box.SIMPLE_HEAD)
        for column in columns + ['backbone share'] * self.whole_model:
            text = column in ('config', 'backbone', 'sparsity')
            table.add_column(column, justify='left' if text else 'right', overflow='fold')
        for row in self.rows:
            latency = row.latency
            cells = [row.config] * configs + [
                f'stock {row.model}' if row.sparsity is None else row.model,
                row.sparsity_text,
                f'{row.macs / 1e9:.2f}',
                _ms(latency.median),
                f'{_ms(latency.q1)} - {_ms(latency.q3)}',
                '-' if latency.peak_memory is None else f'{latency.peak_memory / 1e6:.1f}',
                f'{self.speed_up(row):.2f}x',
                _percent(self.realised_share(row)),
            ]
            table.add_row(*cells, *[_percent(self.backbone_share(row))] * self.whole_model)
        return table


def _ms(seconds: float) -> str:
    value = seconds * 1e3
    return f'{value:.{2 if value < 10 else 1 if value < 100 else 0}f}'


def _percent(share: float | None) -> str:
    return '-' if share is None else f'{share:.0%}'
