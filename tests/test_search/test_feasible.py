import math
import random

import pytest

from sparsevit_mm.search.feasible import cost_space
from sparsevit_mm.sparsity import SparsityLayout, SparsitySpace

WEIGHTS = (4.0, 2.0, 3.0)


def by_site(sparsity):
    return 1 + sum(weight * (1 - value) for weight, value in zip(WEIGHTS, sparsity))


def by_stage(sparsity):
    """The second site of the first stage costs by what the first one left."""
    first, second, third = sparsity
    return 1 + 4 * (1 - first) + 2 * (1 - second) * (1 - 0.5 * first) + 3 * (1 - third)


def by_all(sparsity):
    return by_stage(sparsity) * (2 - sparsity[2])


def with_overhead(sparsity):
    """Selecting costs more than the first choice saves."""
    return by_site(sparsity) + sum(0.9 * (value > 0) for value in sparsity)


COSTS = [by_site, by_stage, by_all, with_overhead]


def is_edge(space, cost, vector, limit):
    """Whether no single site could be one choice less sparse, by trying."""
    if cost(vector) > limit:
        return False
    for i, value in enumerate(vector):
        position = space.choices.index(value)
        lower = (*vector[:i], space.choices[position - 1], *vector[i + 1 :])
        if position and lower in space and cost(lower) <= limit:
            return False
    return True


@pytest.mark.parametrize('cost', COSTS)
@pytest.mark.parametrize('limit', [2.0, 4.5, 6.3, 8.0, 100.0])
def test_counts_and_lists_what_trying_all_gives(space, cost, limit):
    costed = cost_space(space, cost)
    assert costed.count_within(limit) == sum(cost(vector) <= limit for vector in space)
    expected = [vector for vector in space if is_edge(space, cost, vector, limit)]
    assert sorted(costed.edge(limit)) == expected


@pytest.mark.parametrize('cost', COSTS)
def test_least_and_greatest(space, cost):
    costed = cost_space(space, cost)
    costs = [cost(vector) for vector in space]
    assert costed.least == pytest.approx(min(costs)) and costed.greatest == pytest.approx(max(costs))


@pytest.mark.parametrize(('cost', 'parts'), [(by_site, 2), (by_stage, 2), (by_all, 1)])
def test_costs_in_parts_where_they_add_up(space, cost, parts):
    assert len(cost_space(space, cost).parts) == parts


def test_costs_of_sites_need_few_calls(space):
    calls = []

    def cost(sparsity):
        calls.append(sparsity)
        return by_site(sparsity)

    layout = SparsityLayout(tuple('abcdef'), (1, 1, 3, 1))
    costed = cost_space(SparsitySpace(layout), lambda s: cost(s[:3]) + sum(1 - v for v in s[3:]))
    assert len(calls) < 200
    assert costed.count_within(math.inf) == 120_285


def test_counts_where_not_all_can_be_listed():
    """A Swin-L has 17.7 million settings; a sample tells that the count is right."""
    layout = SparsityLayout(tuple('abcdefghijkl'), (1, 1, 9, 1))
    space, rng = SparsitySpace(layout), random.Random(0)
    weights = [rng.random() for _ in range(12)]

    def cost(sparsity):
        return sum(weight * (1 - value) for weight, value in zip(weights, sparsity))

    costed = cost_space(space, cost)
    limit = 0.6 * costed.greatest
    assert costed.edge(limit) is None
    share = sum(cost(space.sample(rng)) <= limit for _ in range(4000)) / 4000
    assert costed.count_within(limit) / len(space) == pytest.approx(share, abs=0.03)


def test_what_neither_adds_up_nor_is_small_is_not_counted():
    space = SparsitySpace(SparsityLayout(tuple('abcdefgh'), (1,) * 8), (0.0, 0.2, 0.4, 0.6))
    costed = cost_space(space, lambda s: math.prod(2 - value for value in s))
    assert costed.parts is None and costed.count_within(10.0) is None and costed.edge(10.0) is None
    assert costed.least == pytest.approx(1.4**8) and costed.greatest == 2.0**8


def test_space_without_dense():
    space = SparsitySpace(SparsityLayout(('a', 'b'), (2,)), (0.3, 0.6))
    costed = cost_space(space, lambda s: 2 - sum(s))
    assert costed.greatest == pytest.approx(1.4) and costed.edge(1.1) == ((0.3, 0.6),)
