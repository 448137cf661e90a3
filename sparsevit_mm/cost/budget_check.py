"""Whether what a benchmark measured keeps a latency budget."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..budget import Budget, format_cost
from .benchmark_report import BenchmarkReport, Row
from .subjects import Subject

__all__ = ['BudgetVerdict', 'judge', 'parse_latency_budget', 'with_dense']


@dataclass(frozen=True)
class BudgetVerdict:
    """A row and the budget that it is held to.

    Args:
        row: One of ours.
        limit: Seconds.
        share: The limit over the median latency of the dense row, where it is meant as such a fraction.
    """

    row: Row
    limit: float
    share: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the median latency is within the limit."""
        return self.row.latency.median <= self.limit

    def sentence(self) -> str:
        """For people."""
        latency = self.row.latency
        limit = format_cost(self.limit, 's') + (f' ({self.share:.4g} of dense)' if self.share is not None else '')
        took = f'{self.row.name} ({self.row.config}) takes {format_cost(latency.median, "s")}'
        if not self.kept:
            return f'OVER BUDGET: {took}, {latency.median / self.limit - 1:.1%} more than the {limit}.'
        close = '; the upper quartile is over it, so give more rounds to be sure' if latency.q3 > self.limit else ''
        return f'Within budget: {took}, {1 - latency.median / self.limit:.1%} less than the {limit}{close}.'

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            'config': self.row.config,
            'sparsity': list(self.row.sparsity or ()),
            'latency': self.row.latency.median,
            'limit': self.limit,
            'share_of_dense': self.share,
            'kept': self.kept,
        }


def parse_latency_budget(text: str) -> Budget:
    """A budget from the command line: ``30`` or ``30ms`` for a time, ``60%`` for a fraction of dense.

    Raises:
        ValueError: If it cannot be read, or is not positive, or more than 100 %.
    """
    text = text.strip()
    try:
        return Budget(float(text) * 1e-3, relative=False)
    except ValueError as error:
        if 'budget' in str(error):
            raise ValueError(f'{error} Write --assert-budget 30 for 30 ms, or 60% of dense.') from error
    return Budget.parse(text, 's')


def with_dense(subject: Subject) -> Subject:
    """The same subject, timed at sparsity 0 too, before its other sparsities."""
    dense = (0.0,) * len(subject.sparse.sites)
    if dense in subject.sparsities:
        return subject
    return replace(subject, sparsities=(dense, *subject.sparsities))


def judge(report: BenchmarkReport, budget: Budget, asked: Sequence[Subject]) -> tuple[BudgetVerdict, ...]:
    """Hold rows of ours to a budget: those of the sparsities that were asked for.

    A dense one is held to it only where nothing else was asked for of its config.

    Args:
        report: What was measured; for a fraction of dense with the rows of :func:`with_dense`.
        budget: The budget.
        asked: The subjects as the user gave them.
    """
    verdicts = []
    for subject in asked:
        wanted = {s for s in subject.sparsities if any(s)} or set(subject.sparsities)
        for row in report.rows:
            if row.config == subject.config and row.sparsity in wanted:
                dense = report.dense_rows(row)[0].latency.median if budget.relative else 0.0
                verdicts.append(BudgetVerdict(row, budget.limit(dense), budget.value if budget.relative else None))
    return tuple(dict.fromkeys(verdicts))
