import math
import random
from types import SimpleNamespace

import optuna
import pytest
from optuna.study import StudyDirection
from search_problem import linear_cost

from sparsevit_mm.search.sampler import SparsitySampler, distributions_of
from sparsevit_mm.sparsity import SparsityLayout, SparsitySpace

DIRECTIONS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]


def sampler(space, limit=math.inf, objection=lambda vector: None):
    return SparsitySampler(space, objection, linear_cost, limit=limit, population_size=6, seed=0)


def parent(space, vector, accuracy):
    return SimpleNamespace(params=dict(zip(space.layout.sites, vector)), values=[accuracy, linear_cost(vector)])


def test_children_are_allowed_and_mostly_between_their_parents(space):
    mother, father = (0.0, 0.5, 0.2), (0.2, 0.8, 0.8)
    parents = [parent(space, mother, 50.0), parent(space, father, 50.0)]
    rng = random.Random(0)
    children = [sampler(space)._child(rng, parents, DIRECTIONS) for _ in range(300)]
    assert all(child in space for child in children)
    between = [all(min(a, b) <= c <= max(a, b) for a, b, c in zip(mother, father, child)) for child in children]
    assert sum(between) > 150
    assert len(set(children)) > 10


@pytest.mark.parametrize('limit', [4.0, 6.0, 9.0])
def test_shaped_settings_lie_at_the_edge_of_the_budget(space, limit):
    """Within it, and no single site can be made less sparse."""
    rng = random.Random(0)
    for _ in range(50):
        vector = sampler(space, limit)._shape(rng, space.sample(rng))
        assert vector in space and linear_cost(vector) <= limit
        for i, value in enumerate(vector):
            lower = [choice for choice in space.choices if choice < value]
            nearer = (*vector[:i], lower[-1], *vector[i + 1 :]) if lower else None
            assert nearer is None or nearer not in space or linear_cost(nearer) > limit


def test_better_parents_win_tournaments(space):
    good, bad = parent(space, (0.5, 0.5, 0.5), 60.0), parent(space, (0.2, 0.2, 0.2), 50.0)
    rng = random.Random(0)
    wins = sum(sampler(space)._tournament(rng, [good, bad], DIRECTIONS) is good for _ in range(400))
    assert wins > 260


def test_exhausted_space_is_noticed(space):
    sampled = sampler(space, objection=lambda vector: 'known')
    study = optuna.create_study(directions=['maximize', 'minimize'], sampler=sampled)
    study.ask(distributions_of(space))
    assert sampled.exhausted and sampled.rejected['known'] > 0


def test_last_setting_is_found(space):
    last = (0.2, 0.5, 0.0)
    sampled = sampler(space, objection=lambda vector: None if vector == last else 'known')
    study = optuna.create_study(directions=['maximize', 'minimize'], sampler=sampled)
    assert tuple(study.ask(distributions_of(space)).params.values()) == last


def test_space_with_one_choice():
    space = SparsitySpace(SparsityLayout(('a', 'b', 'c'), (3,)), (0.5,))
    sampled = sampler(space, limit=100.0)
    study = optuna.create_study(directions=['maximize', 'minimize'], sampler=sampled)
    assert tuple(study.ask(distributions_of(space)).params.values()) == (0.5, 0.5, 0.5)
