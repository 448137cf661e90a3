"""Outcomes of searches that were never run, for what is made of them."""

import math

from search_problem import accuracy, linear_cost

from sparsevit_mm.search.results import Evaluation, Measured, Outcome

SITES = ('stage1.pair1', 'stage1.pair2', 'stage2.pair1')
DENSE = (0.0, 0.0, 0.0)
UNIFORM = [(s,) * 3 for s in (0.2, 0.5, 0.8)]
MIXED = [(0.0, 0.2, 0.8), (0.2, 0.5, 0.8), (0.2, 0.2, 0.8), (0.0, 0.8, 0.8), (0.5, 0.8, 0.2), (0.0, 0.0, 0.8)]


def make_outcome(settings=(*UNIFORM, *MIXED), budget=0.7, dense=True, score=accuracy, **changes):
    """Settings over the budget are left out, as a search never evaluates them."""
    dense_cost = linear_cost(DENSE)
    limit = math.inf if budget is None else budget * dense_cost
    within = [setting for setting in settings if linear_cost(setting) <= limit]
    evaluations = tuple(
        Evaluation(i, s, score(s), linear_cost(s), True, {'mIoU': score(s), 'aAcc': 70.0}, 1.5)
        for i, s in enumerate(within)
    )
    values = dict(
        sites=SITES,
        evaluations=evaluations,
        dense=Evaluation(-1, DENSE, score(DENSE), dense_cost, dense_cost <= limit, {'mIoU': 60.0}) if dense else None,
        dense_cost=dense_cost,
        least_cost=linear_cost((0.8,) * 3),
        greatest_cost=dense_cost,
        limit=limit,
        unit='MACs',
        metric='mIoU',
        higher_is_better=True,
        duplicates=2,
        failed=(),
        interrupted=0,
        space_size=40,
        trials=len(within) + 3,
        feasible_size=None if budget is None else 18,
        stopped_early=3,
        saved=0.25,
        workers=2,
    )
    return Outcome(**{**values, **changes})


def make_measured(outcome, slower=1.0):
    """Latencies of dense, the best uniform setting and the found one, each a millisecond a unit of its cost."""
    chosen = [(DENSE, 1.0), (outcome.best_uniform.sparsity, 1.0), (outcome.best.sparsity, slower)]
    times = [(sparsity, linear_cost(sparsity) * 1e-3 * factor) for sparsity, factor in chosen]
    return tuple(Measured(sparsity, time, 0.99 * time, 1.01 * time) for sparsity, time in times)
