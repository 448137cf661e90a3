import math
import random

import optuna
import pytest
from search_problem import accuracy, linear_cost

from sparsevit_mm.search.feasible import cost_space
from sparsevit_mm.search.sampler import SparsitySampler, distributions_of
from sparsevit_mm.search.trials import Knowledge
from sparsevit_mm.sparsity import SparsityLayout, SparsitySpace


def sampler(space, limit=math.inf, cost=linear_cost, **options):
    return SparsitySampler(cost_space(space, cost), limit=limit, **{'initial': 3, 'seed': 0, **options})


def knows(*vectors):
    return Knowledge(seen=dict.fromkeys(vectors, 0), scored={vector: accuracy(vector) for vector in vectors})


@pytest.fixture
def large():
    """Too large to be listed: 9**12 settings."""
    layout = SparsityLayout(tuple('abcdefghijkl'), (1,) * 12)
    return SparsitySpace(layout)


def large_cost(sparsity):
    return 12 - sum(value * (1 + i / 12) for i, value in enumerate(sparsity))


@pytest.mark.parametrize('limit', [4.0, 6.0, 9.0])
def test_proposals_lie_at_the_edge_of_the_budget(space, limit):
    edge = cost_space(space, linear_cost).edge(limit)
    assert all(sampler(space, limit).propose(number) in edge for number in range(20))


def test_after_the_edge_comes_what_is_below_it(space):
    edge = cost_space(space, linear_cost).edge(6.0)
    drawn = sampler(space, 6.0)
    drawn.knowledge = knows(*edge)
    proposed = drawn.propose(0)
    assert proposed not in edge and linear_cost(proposed) <= 6.0


def test_last_setting_is_found(space):
    last = (0.5, 0.8, 0.5)
    drawn = sampler(space, 6.0)
    drawn.knowledge = knows(*(vector for vector in space if vector != last))
    assert drawn.propose(5) == last


def test_nothing_is_proposed_where_all_is_known(space):
    drawn = sampler(space, 6.0)
    drawn.knowledge = knows(*space)
    study = optuna.create_study(sampler=drawn)
    assert drawn.propose(0) is None
    with pytest.raises(LookupError):
        study.ask(distributions_of(space))


def test_first_is_what_is_proposed(space):
    drawn = sampler(space, 6.0)
    drawn.first = (0.0, 0.0, 0.0)
    trial = optuna.create_study(sampler=drawn).ask(distributions_of(space))
    assert tuple(trial.params.values()) == (0.0, 0.0, 0.0)


def test_knowledge_leads_to_the_best_setting():
    """Of 5,979 settings that use the budget of a space like Swin-T's up, it is proposed within 25 evaluations."""
    layout = SparsityLayout(tuple('abcdef'), (1, 1, 3, 1))
    space, harm = SparsitySpace(layout), (12.0, 3.0, 6.0, 2.0, 1.0, 9.0)

    def score(sparsity):
        return -sum(h * s**2 for h, s in zip(harm, sparsity))

    def cost(sparsity):
        return 1 + sum(w * (1 - s) for w, s in zip((5, 4, 2, 2, 2, 1), sparsity))

    drawn = sampler(space, 0.6 * 17, cost, initial=8)
    best, scored = max(map(score, cost_space(space, cost).edge(0.6 * 17))), {}
    for number in range(25):
        drawn.knowledge = Knowledge(seen=dict.fromkeys(scored, 0), scored=scored)
        vector = drawn.propose(number)
        assert vector not in scored
        scored = {**scored, vector: score(vector)}
    assert max(scored.values()) == pytest.approx(best)


def test_lower_is_better_is_searched_downwards(space):
    down, up = (sampler(space, 6.0, higher_is_better=higher) for higher in (False, True))
    known = knows((0.0, 0.8, 0.8), (0.8, 0.8, 0.0), (0.5, 0.5, 0.5), (0.2, 0.8, 0.5))
    up.knowledge = known
    down.knowledge = Knowledge(seen=known.seen, scored={vector: -value for vector, value in known.scored.items()})
    assert [down.propose(i) for i in range(5)] == [up.propose(i) for i in range(5)]


def test_workers_spread_out(space):
    """What another one is at counts as known, so that two do not look at neighbours."""
    drawn = sampler(space, 6.0)
    known = knows((0.0, 0.8, 0.8), (0.8, 0.8, 0.0), (0.5, 0.5, 0.5), (0.2, 0.8, 0.5))
    drawn.knowledge = known
    first = drawn.propose(0)
    drawn.knowledge = Knowledge(seen={**known.seen, first: 1}, scored=known.scored, running=(first,))
    assert drawn.propose(1) != first


def test_without_a_budget_costs_are_drawn_all_along(space):
    costs = {linear_cost(sampler(space).propose(number)) for number in range(40)}
    assert min(costs) < 4.0 and max(costs) > 8.0


class TestTooLargeToList:
    def test_draws_are_moved_to_the_edge(self, large):
        drawn = sampler(large, 6.0, large_cost)
        for number in range(3):
            vector = drawn.propose(number)
            assert vector in large and large_cost(vector) <= 6.0
            lowered = ((*vector[:i], max(0.0, round(v - 0.1, 1)), *vector[i + 1 :]) for i, v in enumerate(vector))
            assert all(large_cost(other) > 6.0 for other in lowered if other != vector)

    def test_groups_stay_in_order(self):
        layout = SparsityLayout(tuple('abcdefghijkl'), (6, 6))
        space, rng = SparsitySpace(layout), random.Random(0)
        drawn = sampler(space, 6.0, large_cost)
        vectors = [drawn._shape(rng, space.sample(rng), 6.0) for _ in range(20)]
        assert all(drawn._mutated(rng, vector) in space for vector in vectors)

    def test_searches_near_the_best(self, large):
        drawn = sampler(large, 6.0, large_cost, initial=2)
        rng = random.Random(0)
        scored = {}
        for _ in range(12):
            vector = drawn._shape(rng, large.sample(rng), 6.0)
            scored[vector] = -sum(value**2 for value in vector)
        for number in range(12, 24):
            drawn.knowledge = Knowledge(seen=dict.fromkeys(scored, 0), scored=scored)
            vector = drawn.propose(number)
            scored = {**scored, vector: -sum(value**2 for value in vector)}
        accuracies = list(scored.values())
        assert max(accuracies[12:]) > max(accuracies[:12]) + 0.1


def test_same_trial_same_proposal(space):
    assert [sampler(space, 6.0).propose(n) for n in range(6)] == [sampler(space, 6.0).propose(n) for n in range(6)]


def test_space_with_one_choice():
    space = SparsitySpace(SparsityLayout(('a', 'b', 'c'), (3,)), (0.5,))
    assert sampler(space, 100.0).propose(0) == (0.5, 0.5, 0.5)
