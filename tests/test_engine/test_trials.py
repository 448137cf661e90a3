"""The plan of phases by tolerance: from the values of a metric to sparsity."""

import json
import math
from collections.abc import Callable

import pytest

from sparsevit_mm.engine.trials import ToleratedDrop, TrialPlan, TrialState
from sparsevit_mm.sparsity import SparsityLayout

VIT = SparsityLayout(('block3', 'block6', 'block9'), (3,))


def plan(target: tuple = (0.5, 0.5, 0.5), merge: float = 0.0, layout: SparsityLayout = VIT, **options) -> TrialPlan:
    options = dict(tolerance=1.0, metric='mIoU', step=0.2) | options
    return TrialPlan(layout, layout.normalize(target), ToleratedDrop.parse(options), merge)


def go(plan: TrialPlan, metric: Callable[[tuple], float], steps: int = 20) -> tuple[TrialState, list[tuple]]:
    state, seen = plan.begin(plan.options.metric, metric((0.0,) * len(plan.target))), []
    for done in range(1, steps + 1):
        if state.is_over:
            break
        seen.append(state.sparsity)
        plan.layout.normalize(state.sparsity)
        state = plan.decide(plan.load(json.loads(json.dumps(plan.dump(state)))), metric(state.sparsity), done)
    return state, seen


def test_a_site_rises_until_its_target_or_the_tolerance() -> None:
    state, seen = go(plan(), lambda sparsity: 80 - 2 * sparsity[1] - 10 * sparsity[0])
    assert seen == [(0, 0, 0.2), (0, 0, 0.4), (0, 0, 0.5), (0, 0.2, 0.5), (0, 0.4, 0.5), (0, 0.5, 0.5), (0.2, 0.5, 0.5)]
    assert state.is_over and state.accepted == state.sparsity == (0, 0.5, 0.5)
    assert [record['accepted'] for record in state.history] == [True] * 6 + [False]
    assert state.history[-1] == dict(done=7, site='block3', sparsity=0.2, value=77.0, accepted=False)


def test_an_earlier_site_of_a_stage_is_not_sparser_than_a_later_one() -> None:
    state, seen = go(plan(), lambda sparsity: 80.0 if sparsity[2] < 0.3 else 0.0)
    assert seen == [(0, 0, 0.2), (0, 0, 0.4), (0, 0.2, 0.2), (0.2, 0.2, 0.2)] and state.accepted == (0.2, 0.2, 0.2)
    state, seen = go(plan(), lambda sparsity: 80.0 - 80 * sum(sparsity))
    assert seen == [(0, 0, 0.2)] and state.accepted == (0, 0, 0) and state.is_over


def test_stages_do_not_bound_each_other() -> None:
    layout = SparsityLayout(('s1', 's2'), (1, 1))
    state, seen = go(plan((0.4, 0.4), layout=layout), lambda sparsity: 80.0 - 80 * sparsity[1])
    assert seen == [(0, 0.2), (0.2, 0), (0.4, 0)] and state.accepted == (0.4, 0)


@pytest.mark.parametrize(
    ('options', 'values', 'accepted'),
    [
        (dict(), (80, 79.0), True),
        (dict(), (80, 78.9), False),
        (dict(), (80, 85), True),
        (dict(), (80, math.nan), False),
        (dict(tolerance=0.005), (0.412, 0.407), True),  # up to rounding
        (dict(tolerance=0), (0.4, 0.4), True),
        (dict(metric='rmse'), (5, 5.9), True),
        (dict(metric='rmse'), (5, 6.1), False),
        (dict(metric='rmse', higher_is_better=True), (5, 3.9), False),
        (dict(metric='badness', higher_is_better=False), (5, 6.1), False),
    ],
)
def test_what_is_within_tolerance(options: dict, values: tuple, accepted: bool) -> None:
    trials = plan(**options)
    state = trials.decide(trials.begin(trials.options.metric, values[0]), values[1])
    assert state.history[0]['accepted'] is accepted and state.accepted == (0, 0, 0.2 if accepted else 0)


def test_patience() -> None:
    trials = plan(patience=1)
    state = trials.begin('mIoU', 80.0)
    for value, sparsity in ((70, (0, 0, 0.2)), (80, (0, 0, 0.4)), (70, (0, 0, 0.4)), (70, (0, 0.2, 0.2))):
        state = trials.decide(state, value)
        assert state.sparsity == sparsity
    assert state.misses == 0 and len(state.history) == 4


def test_neighbours_merge_when_all_phases_are_over() -> None:
    trials = plan((0.3, 0.45, 0.5), merge=0.085)
    state, seen = go(trials, lambda sparsity: 80.0)
    assert seen[-1] == (0.3, 0.45, 0.5) and state.accepted == pytest.approx((0.3, 0.475, 0.475))
    assert trials.is_merged(state) and not plan().is_merged(go(plan(), lambda sparsity: 80.0)[0])
    assert trials.decide(state, 0.0, 99).accepted == state.accepted


def test_number_of_validations() -> None:
    assert plan((0, 0.4, 0.5)).most_validations == 5 == len(go(plan((0, 0.4, 0.5)), lambda sparsity: 1.0)[1])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(tolerance=-1), 'tolerance in phases .* from 0 on, got -1'),
        (dict(tolerance='1'), 'tolerance in phases'),
        (dict(tolerance=math.inf), 'tolerance in phases'),
        (dict(metric=None), 'metric in phases .* must name the number .* got None'),
        (dict(step=0), r'step in phases .* \(0, 1\), got 0'),
        (dict(step=1.0), r'step in phases .* \(0, 1\), got 1.0'),
        (dict(patience=-1), 'patience in phases'),
        (dict(reference=math.nan), 'reference in phases'),
        (dict(higher_is_better='yes'), 'higher_is_better in phases'),
        (dict(stepp=0.1), 'have no stepp: with tolerance they may have tolerance, metric, step'),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**options)


def test_a_metric_is_required() -> None:
    with pytest.raises(ValueError, match='metric in phases'):
        ToleratedDrop.parse(dict(tolerance=1.0))


def test_a_reference_is_a_number() -> None:
    with pytest.raises(ValueError, match='mIoU of the dense model is nan'):
        plan().begin('mIoU', math.nan)


def test_a_state_belongs_to_its_sites_and_targets() -> None:
    saved = plan().dump(plan().begin('mIoU', 80.0))
    with pytest.raises(ValueError, match=r'target 0\.5, 0\.5, 0\.5, this one with 0\.1, 0\.5'):
        plan((0.1, 0.5, 0.5)).load(saved)
    with pytest.raises(ValueError, match='sites block3, block6, block9, this one with a, b, c'):
        plan(layout=SparsityLayout(('a', 'b', 'c'), (3,))).load(saved)
