"""Fitting sparsities to budgets: exact on its grid, gradual, and clear about what cannot be."""

import random
from itertools import pairwise, product

import pytest
from tables import made_up

from sparsevit_mm.budget import Budget
from sparsevit_mm.cost import LatencyTable, fit_to_budget
from sparsevit_mm.cost.fit import BINS, _grid, default_margin, pruning_cost

CHOICES = (0.0, 0.05, 0.08)  # a grid of 0 and four values


def random_table(seed: int, groups: tuple[int, ...], choices: tuple[float, ...] = CHOICES) -> LatencyTable:
    """Times that mostly, and not always, fall with sparsity."""
    generator = random.Random(seed)
    times = []
    for _ in range(sum(groups)):
        dense = generator.uniform(1, 5)
        times.append([dense, *sorted((generator.uniform(0.3, 1.1) * dense for _ in choices[1:]), reverse=True)])
    return made_up(groups, choices, times, rest=generator.uniform(0, 2))


def by_trying(table: LatencyTable, limit: float, weights: list[float] | None = None) -> float:
    """The least cost of all settings of the grid within a limit."""
    grid = [float(value) for value in _grid(table.choices)]
    best = float('inf')
    for setting in product(grid, repeat=len(table.sites)):
        ordered = all(list(setting[span]) == sorted(setting[span]) for span in table.layout.spans)
        if ordered and table.predict(setting) <= limit:
            best = min(best, pruning_cost(setting, table.backbone.groups, weights))
    return best


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('groups', [(3,), (1, 2), (1, 1, 1)])
def test_it_is_the_best_of_all(seed: int, groups: tuple[int, ...]) -> None:
    table = random_table(seed, groups)
    weights = [1.0, 3.0, 0.5] if seed % 2 else None
    limit = table.least + 0.4 * (table.dense - table.least)
    if limit >= table.dense:
        pytest.skip('nothing to prune')
    found = fit_to_budget(table, Budget(limit, relative=False), weights=weights, margin=0)
    assert table.layout.normalize(found) == found and table.predict(found) <= limit
    cost = pruning_cost(found, groups, weights)
    assert cost >= by_trying(table, limit, weights) - 1e-12
    # Times are rounded up to bins, so that no more than this of the limit is left.
    rounded = limit - len(table.sites) * (limit - table.rest) / BINS
    assert cost <= by_trying(table, rounded, weights) + 1e-12


@pytest.mark.parametrize('share', [0.9, 0.7, 0.55])
def test_the_limit_holds_and_is_used(share: float) -> None:
    table = made_up()
    found = fit_to_budget(table, share, margin=0)
    assert 0.985 * share < table.predict(found) / table.dense <= share + 1e-9


def test_more_time_never_costs_more() -> None:
    table = random_table(3, (2, 3), (0.0, 0.2, 0.5, 0.8))
    costs = [
        pruning_cost(fit_to_budget(table, table.least / table.dense + part * 0.1, margin=0), table.backbone.groups)
        for part in (0.5, 1, 1.5, 2)
    ]
    assert costs == sorted(costs, reverse=True) and costs[0] > costs[-1]


def test_sites_that_cost_alike_are_pruned_in_steps() -> None:
    """Each site drops some of what is there, and earlier ones more, whose drops save more."""
    times = [[4.0, 4 * 0.1]] * 3
    found = fit_to_budget(made_up((3,), (0.0, 0.9), times, rest=4.0), 0.75, margin=0)
    keeps = [1 - value for value in (0.0, *found)]
    drops = [before / after for before, after in pairwise(keeps)]
    assert drops == sorted(drops, reverse=True) and drops[-1] > 1 and drops[0] < 2 * drops[-1]


def test_slow_sites_give_up_more_and_weights_protect() -> None:
    table = made_up((1, 1), (0.0, 0.1, 0.8), ((1.0, 0.9, 0.2), (4.0, 3.6, 0.8)))
    fast, slow = fit_to_budget(table, 0.8)
    assert slow > fast
    protected = fit_to_budget(table, 0.8, weights=(1, 50))
    assert protected[1] < slow and protected[0] > fast


@pytest.mark.parametrize(
    ('choices', 'grid'),
    [
        ((0.0, 0.12), [0, 0.1, 0.11, 0.12]),
        ((0.0, 0.115, 0.125), [0, 0.1, 0.11, 0.115, 0.12, 0.125]),
        ((0.0, 0.03, 0.05), [0, 0.03, 0.04, 0.05]),
    ],
)
def test_hardly_any_sparsity_is_not_tried(choices: tuple[float, ...], grid: list[float]) -> None:
    assert _grid(choices).tolist() == grid


def test_the_least_that_a_message_names_can_be_given() -> None:
    for margin in (0.0, 0.05):
        with pytest.raises(ValueError, match=r'budget 3000 ms \(0\.2 of dense\) cannot be reached') as error:
            fit_to_budget(made_up(), 0.2, margin=margin)
        text = str(error.value)
        assert f'Of it {margin:.1%} is margin' in text and 'greater choices than 0.5' in text
        least, share = text.split('can be is ')[1].split(' ms')[0], text.split('which is ')[1].split(' of')[0]
        for budget in (f'{least}ms', share):
            assert fit_to_budget(made_up(), budget, margin=margin) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize('budget', ['100%', 1.0, '15s', '20s'])
def test_nothing_to_prune(budget: str | float) -> None:
    with pytest.raises(ValueError, match=r'no less than what the dense backbone takes, 1\.5e\+04 ms: nothing has to'):
        fit_to_budget(made_up(), budget)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(budget=0), r'budget is 0\.0'),
        (dict(budget=-1), r'budget is -1'),
        (dict(budget='0ms'), 'must be a positive amount'),
        (dict(budget='60G'), 'cannot be read'),
        (dict(margin=1), r'margin must be a fraction of the budget in \[0, 1\)'),
        (dict(margin=-0.1), r'margin must be a fraction of the budget in \[0, 1\)'),
        (dict(weights=(1, 2)), 'weights must be 3 numbers above 0'),
        (dict(weights=(1, 2, 0)), 'weights must be 3 numbers above 0'),
        (dict(weights=2), 'weights must be 3 numbers above 0'),
        (dict(weights='low'), 'weights must be 3 numbers above 0'),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_to_budget(made_up(), **dict(budget=0.7) | options)


def test_the_margin_is_what_predictions_miss() -> None:
    assert default_margin(made_up()) == 0.05
    assert default_margin(made_up(check=[(1.0, 1.001)])) == 0.02
    checked = made_up(check=[(1.0, 1.0), (1.0, 1.0), (1.0, 1.1), (1.0, 0.9), (1.0, 1.0)])
    assert default_margin(checked) == pytest.approx(0.1)
    found = fit_to_budget(checked, 0.8)
    assert checked.predict(found) <= 0.9 * 0.8 * checked.dense
    assert found == fit_to_budget(checked, 0.8, margin=default_margin(checked))
