"""A latency table and what was fitted by it, for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from ..budget import Budget, format_cost
from ..models import SparseBackbone
from .fit import default_margin, fit_to_budget
from .latency_table import LatencyTable
from .macs import count_macs

__all__ = ['Fit', 'check_sentence', 'fit', 'fits_table', 'sites_table']


@dataclass(frozen=True)
class Fit:
    """A budget and the setting that was fitted to it.

    Args:
        budget: As it was written.
        limit: Seconds of the budget, the margin included.
        sparsity: One float a site.
        seconds: Predicted.
        share: Of the predicted latency at sparsity 0.
        macs_share: Of the MACs at sparsity 0.
    """

    budget: str
    limit: float
    sparsity: tuple[float, ...]
    seconds: float
    share: float
    macs_share: float


def fit(
    table: LatencyTable,
    backbone: SparseBackbone,
    budget: str,
    margin: float | None = None,
    weights: Sequence[float] | None = None,
) -> Fit:
    """Fit a backbone to a budget, see :func:`fit_to_budget`; the backbone is left as it was.

    Raises:
        ValueError: If the budget cannot be read or kept.
    """
    sparsity = fit_to_budget(table, budget, weights=weights, margin=margin)
    own, shape = backbone.sparsity, table.environment.shape
    try:
        backbone.sparsity = 0.0
        dense = count_macs(backbone, shape)
        backbone.sparsity = sparsity
        macs = count_macs(backbone, shape)
    finally:
        backbone.sparsity = own
    seconds = table.predict(sparsity)
    limit = Budget.parse(budget, 's').limit(table.dense)
    return Fit(budget, limit, sparsity, seconds, seconds / table.dense, macs / dense)


def sites_table(table: LatencyTable) -> Any:
    """A rich table: a row a site with its milliseconds at each choice, and the sums."""
    from rich import box
    from rich.table import Table

    title = f'{table.backbone.type} on {table.environment.describe()}: ms of each site by its sparsity'
    shown = Table(title=title, title_justify='left', box=box.SIMPLE_HEAD)
    shown.add_column('site')
    for choice in table.choices:
        shown.add_column(f'{choice:g}', justify='right')
    for name, site in zip(table.backbone.sites, table.sites):
        shown.add_row(name, *map(_ms, site.median))
    shown.add_row('the rest', *[_ms(table.rest)] * len(table.choices), end_section=True)
    sums = (table.rest + sum(site.median[i] for site in table.sites) for i in range(len(table.choices)))
    shown.add_row('sum', *map(_ms, sums))
    return shown


def check_sentence(table: LatencyTable) -> str:
    """How well the table predicts, and the margin that follows from it."""
    margin = f'Budgets are fitted with a margin of {default_margin(table):.1%} unless another is given.'
    errors = table.check_errors()
    if not errors:
        return f'Its predictions were not checked (--check). {margin}'
    worst = max(table.check, key=lambda setting: abs(setting.error))
    return (
        f'Predictions of {len(errors)} random settings are off by {median(errors):.1%} (median) and at worst by '
        f'{max(errors):.1%}: {format_cost(worst.predicted, "s")} predicted and {format_cost(worst.measured, "s")} '
        f'measured at {_listed(worst.sparsity)}. {margin}'
    )


def fits_table(fits: Sequence[Fit]) -> Any:
    """A rich table, a row a budget."""
    from rich import box
    from rich.table import Table

    shown = Table(title='Fitted to budgets', title_justify='left', box=box.SIMPLE_HEAD)
    for column in ('budget', 'limit, ms', 'predicted, ms', 'of dense', 'MACs of dense', 'sparsity'):
        text = column in ('budget', 'sparsity')
        shown.add_column(column, justify='left' if text else 'right', overflow='fold')
    for item in fits:
        shares = (f'{share:.1%}' for share in (item.share, item.macs_share))
        shown.add_row(item.budget, _ms(item.limit), _ms(item.seconds), *shares, _listed(item.sparsity))
    return shown


def _ms(seconds: float) -> str:
    value = seconds * 1e3
    return f'{value:.{3 if value < 1 else 2 if value < 10 else 1}f}'


def _listed(sparsity: Sequence[float]) -> str:
    return ','.join(f'{value:g}' for value in sparsity)
