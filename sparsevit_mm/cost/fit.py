"""From a latency limit to the sparsity of every site."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real

import numpy as np

from ..budget import Budget, format_cost
from .latency_table import LatencyTable

__all__ = ['check_weights', 'default_margin', 'fit_to_budget', 'pruning_cost']

STEP = 0.01
LOWEST = 0.1  # between dense and this nothing is tried
BINS = 4000
MARGINS = (0.02, 0.05)  # the least one, and that of a table that was not checked


def fit_to_budget(
    table: LatencyTable,
    budget: Budget | str | float,
    *,
    weights: Sequence[float] | None = None,
    margin: float | None = None,
) -> tuple[float, ...]:
    r"""The sparsity of every site that keeps a limit and drops as gradually as it can.

    SPViT (arXiv 2112.13890) fits keep ratios to a latency limit by a table of the device and says nothing of how they
    are shared out. Here the sum over the sites of

    .. math:: w_i \log^2 (k_{i-1} / k_i)

    is least, where :math:`k_i` is the fraction of units that site :math:`i` keeps and :math:`k_{i-1}` that of the site
    before it in its group (1 before the first). Dropping a share of what is there costs wherever it is done, and twice
    the share more than twice as much. So a plain ViT is pruned in steps, as with DynamicViT's :math:`\rho, \rho^2,
    \rho^3`, with greater ones at earlier sites, where they save more; and a site whose blocks are slow gives up more
    than one whose blocks are fast.

    The minimum is exact over a grid: 0, the choices of the table, and every hundredth from 0.1 (or its first choice
    above 0, if that is lower) to its last one. Less is not tried: a site that drops hardly anything pays for selecting
    all the same.

    Args:
        table: Of the backbone on the device.
        budget: A fraction of the latency at sparsity 0 (``0.6``, ``'60%'``), or a time (``'30ms'``).
        weights: How much dropping at a site matters, one value a site; all the same if not given.
        margin: Fraction of the limit that is kept free for what the prediction misses. If not given, the upper quartile
            of the table's own relative errors, but 2 % at least, and 5 % for a table that was not checked.

    Raises:
        ValueError: If the budget cannot be read, is met by the dense backbone or by no setting, or if weights or margin
            are not valid.
    """
    margin = default_margin(table) if margin is None else _checked_margin(margin)
    limit = _limit(table, Budget.parse(budget, 's'), margin)
    weights = [1.0] * len(table.sites) if weights is None else check_weights(weights, table.backbone.sites)
    grid = _grid(table.choices)
    seconds = [table.site_seconds(i, grid) for i in range(len(table.sites))]
    picks = _cheapest(seconds, grid, table.backbone.groups, weights, limit - table.rest)
    if picks is None:  # rounding to bins hides what is within a hair of the least
        raise ValueError(f'the limit of {format_cost(limit, "s")} is too near the least latency to be solved for.')
    return tuple(float(grid[pick]) for pick in picks)


def pruning_cost(sparsity: Sequence[float], groups: Sequence[int], weights: Sequence[float] | None = None) -> float:
    """What :func:`fit_to_budget` makes least.

    Args:
        sparsity: One value a site.
        groups: Sites of each group.
        weights: One value a site.
    """
    total, first = 0.0, 0
    for size in groups:
        kept = [1.0, *(1 - value for value in sparsity[first : first + size])]
        for i, (before, after) in enumerate(pairwise(kept), first):
            total += (1.0 if weights is None else weights[i]) * math.log(before / after) ** 2
        first += size
    return total


def default_margin(table: LatencyTable) -> float:
    """The fraction of a limit that is kept free where none is given, see :func:`fit_to_budget`."""
    least, unchecked = MARGINS
    errors = table.check_errors()
    return min(0.5, max(least, float(np.quantile(errors, 0.75)))) if errors else unchecked


def _limit(table: LatencyTable, budget: Budget, margin: float) -> float:
    """Seconds that the prediction may take."""
    limit, dense = budget.limit(table.dense), format_cost(table.dense, 's')
    if limit >= table.dense:
        raise ValueError(
            f'budget {format_cost(limit, "s")} is no less than what the dense backbone takes, {dense}: nothing has to '
            f'be pruned. Give less, or train at sparsity 0.'
        )
    reachable = table.least / (1 - margin)
    if limit * (1 - margin) < table.least:
        raise ValueError(
            f'budget {format_cost(limit, "s")} ({limit / table.dense:.3g} of dense) cannot be reached: the least that '
            f'can be is {_up(reachable * 1e3, 4)} ms, which is {_up(reachable / table.dense, 3)} of the dense {dense}. '
            f'Of it {margin:.1%} is margin for errors of the prediction. Give a greater budget, a smaller margin, or a '
            f'table with greater choices than {table.choices[-1]:g}.'
        )
    return limit * (1 - margin)


def _up(value: float, digits: int) -> str:
    """Rounded up, so that what a message names can be given."""
    scale = 10.0 ** (digits - 1 - math.floor(math.log10(value)))
    return f'{math.ceil(value * scale - 1e-9) / scale:.{digits}g}'


def _checked_margin(margin: float) -> float:
    if isinstance(margin, bool) or not isinstance(margin, Real) or not 0 <= margin < 1:
        raise ValueError(f'margin must be a fraction of the budget in [0, 1), such as 0.05; got {margin!r}.')
    return float(margin)


def check_weights(weights: Sequence[float], sites: Sequence[str]) -> list[float]:
    """Weights of :func:`fit_to_budget` as a list, if they can be that of these sites.

    Raises:
        ValueError: If not.
    """
    given = list(weights) if isinstance(weights, Iterable) else [weights]
    valid = all(isinstance(w, Real) and not isinstance(w, bool) and 0 < w < math.inf for w in given)
    if len(given) != len(sites) or not valid:
        raise ValueError(
            f'weights must be {len(sites)} numbers above 0, one for each of {", ".join(sites)}; got {weights!r}.'
        )
    return given


def _grid(choices: Sequence[float]) -> np.ndarray:
    """The sparsities that are tried, ascending."""
    first, last = round(min(choices[1], LOWEST) / STEP), math.floor(choices[-1] / STEP + 1e-9)
    return np.array(sorted({*choices, *(round(i * STEP, 2) for i in range(first, last + 1))}))


@dataclass(frozen=True, eq=False)
class _Table:
    """Sites solved so far.

    Args:
        costs: ``[bins + 1, grid]`` least cost of those that take so many bins and end at so much sparsity.
        before: Of the last site, the index in the grid of the site before it, likewise.
    """

    costs: np.ndarray
    before: np.ndarray


def _cheapest(
    seconds: Sequence[np.ndarray],
    grid: np.ndarray,
    groups: Sequence[int],
    weights: Sequence[float],
    limit: float,
) -> list[int] | None:
    """Indices in the grid of the cheapest setting within a limit, by dynamic programming; ``None`` if there is none.

    Time beyond what each site takes at its fastest is counted in bins and rounded up, so no setting that is over the
    limit is taken for one within it.

    Args:
        seconds: Of each site over the grid.
        grid: Sparsities, ascending from 0.
        groups: Sites of each group.
        weights: Of each site.
        limit: Seconds that all sites together may take.
    """
    slack = limit - sum(values.min() for values in seconds)
    width = max(slack, 1e-12) / BINS
    bins = [np.ceil((values - values.min()) / width - 1e-9).astype(np.int64) for values in seconds]
    kept = np.log(1 - grid)
    # Cost of going from one sparsity to another; never back to a lower one.
    change = np.where(grid[:, None] <= grid, (kept[:, None] - kept) ** 2, np.inf)
    solved: list[_Table] = []
    costs = np.full((BINS + 1, len(grid)), np.inf)
    costs[0, 0] = 0.0
    starts = {sum(groups[:i]) for i in range(len(groups))}
    for i, taken in enumerate(bins):
        ends = None
        if i in starts and i:
            ends = costs.argmin(1)  # a group begins at 0 again, whatever the last one ended at
            fresh = np.full_like(costs, np.inf)
            fresh[:, 0] = costs.min(1)
            costs = fresh
        solved.append(_advance(costs, weights[i] * change, taken, ends))
        costs = solved[-1].costs
    return _traced(solved, bins)


def _advance(costs: np.ndarray, change: np.ndarray, taken: np.ndarray, ends: np.ndarray | None) -> _Table:
    """One more site.

    Args:
        costs: Of the sites before it, ``[bins + 1, grid]``.
        change: ``[grid, grid]`` cost of its going from one sparsity to another.
        taken: ``[grid]`` bins that it takes.
        ends: ``[bins + 1]`` where a group begins: what the last one ended at.
    """
    after = np.full_like(costs, np.inf)
    before = np.zeros(costs.shape, dtype=np.int64)
    for pick, used in enumerate(taken):
        if used >= len(costs):
            continue
        reached = costs[: len(costs) - used, : pick + 1] + change[: pick + 1, pick]
        best = reached.argmin(1)
        after[used:, pick] = np.take_along_axis(reached, best[:, None], 1)[:, 0]
        before[used:, pick] = best if ends is None else ends[: len(costs) - used]
    return _Table(after, before)


def _traced(solved: Sequence[_Table], bins: Sequence[np.ndarray]) -> list[int] | None:
    """The way back from the cheapest end."""
    costs = solved[-1].costs
    if not np.isfinite(costs).any():
        return None
    used, pick = np.unravel_index(costs.argmin(), costs.shape)
    picks = []
    for table, taken in zip(reversed(solved), reversed(bins)):
        picks.append(int(pick))
        used, pick = used - taken[pick], table.before[used, pick]
    return picks[::-1]
