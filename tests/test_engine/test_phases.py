"""The plan of phases with lengths: pure arithmetic."""

import pytest

from sparsevit_mm.engine.phases import FixedPhases, merge_neighbours, parse_phases, plan_phases
from sparsevit_mm.sparsity import SparsityLayout

VIT = SparsityLayout(('block3', 'block6', 'block9'), (3,))
SWIN = SparsityLayout(('s1', 's2', 's3a', 's3b', 's3c', 's4'), (1, 1, 3, 1))
TARGET = (0.3, 0.5, 0.7)


def plan(phases: list | dict, mode: str = 'step', merge: float = 0.0, target: tuple = TARGET) -> FixedPhases:
    return plan_phases(VIT, target, parse_phases(phases), mode, merge)


def test_one_phase_a_site_from_the_last_to_the_first() -> None:
    values = [plan(dict(length=2, begin=1)).sparsity_at(step) for step in range(9)]
    off, last, two = (0, 0, 0), (0, 0, 0.7), (0, 0.5, 0.7)
    assert values == [off, last, last, two, two, TARGET, TARGET, TARGET, TARGET]
    assert plan(dict(length=2, begin=1)).end == 7


@pytest.mark.parametrize(
    'phases',
    [
        [dict(sites='block9', end=2), dict(sites='block6', end=4), dict(sites='block3', end=6)],
        [dict(sites='block9', length=2), dict(sites=['block6'], begin=2, length=2), dict(sites='block3', length=2)],
        [dict(sites='block3', begin=4, end=6), dict(sites='block9', begin=0, end=2),
         dict(sites='block6', begin=2, end=4)],
    ],
)  # fmt: skip
def test_ways_to_write_the_same(phases: list) -> None:
    assert plan(phases) == plan(dict(length=2))


@pytest.mark.parametrize('mode', ['linear', 'cosine'])
def test_a_ramp_ends_within_its_phase_and_keeps_the_order(mode: str) -> None:
    ramp = plan([dict(sites='block9', length=4), dict(sites=('block3', 'block6'), begin=6, length=3)], mode)
    values = [ramp.sparsity_at(step) for step in range(10)]
    assert [value[2] for value in values[3:]] == [0.7] * 7 and 0 < values[0][2] < values[1][2] < values[2][2] < 0.7
    assert [value[0] for value in values[:6]] == [0] * 6 and 0 < values[6][0] < values[7][0] < 0.3
    assert values[8] == values[9] == TARGET
    for value in values:
        VIT.normalize(value)


def test_linear_parts() -> None:
    values = [plan(dict(length=2), 'linear').sparsity_at(step) for step in range(6)]
    assert [value[2] for value in values] == pytest.approx([0.35] + [0.7] * 5)
    assert [value[0] for value in values] == pytest.approx([0, 0, 0, 0, 0.15, 0.3])


def test_dense_sites_need_no_phase() -> None:
    assert plan([dict(sites='block9', length=3)], target=(0, 0, 0.7)).sparsity_at(0) == (0, 0, 0.7)
    assert plan(dict(length=3), target=(0, 0, 0.7)).end == 3


def test_phases_over_stages_go_from_the_last_site_back() -> None:
    target = (0.6, 0, 0.2, 0.4, 0.5, 0.1)
    values = [plan_phases(SWIN, target, parse_phases(dict(length=1)), 'step').sparsity_at(step) for step in range(6)]
    switched = [[i for i, value in enumerate(value) if value > 0] for value in values]
    assert switched == [[5], [4, 5], [3, 4, 5], [2, 3, 4, 5], [0, 2, 3, 4, 5], [0, 2, 3, 4, 5]]
    assert values[-1] == target


@pytest.mark.parametrize(
    ('sparsity', 'merge', 'merged', 'runs'),
    [
        (TARGET, 0.085, TARGET, [(0,), (1,), (2,)]),
        ((0.3, 0.35, 0.7), 0.085, (0.325, 0.325, 0.7), [(0, 1), (2,)]),
        ((0.3, 0.35, 0.35), 0.0, (0.3, 0.35, 0.35), [(0,), (1,), (2,)]),
        ((0.1, 0.1, 0.1), 0.01, (0.1, 0.1, 0.1), [(0, 1, 2)]),  # a mean of three times 0.1 is not 0.1
        ((0.3, 0.36, 0.42), 0.085, (0.3, 0.39, 0.39), [(0,), (1, 2)]),  # no chain that goes on without end
        ((0.0, 0.05, 0.1), 0.085, (0.0, 0.075, 0.075), [(0,), (1, 2)]),  # dense stays dense
    ],
)
def test_merging(sparsity: tuple, merge: float, merged: tuple, runs: list) -> None:
    values, found = merge_neighbours(VIT, sparsity, merge)
    assert values == pytest.approx(merged) and found == runs
    assert VIT.normalize(values) == values


def test_stages_are_not_merged() -> None:
    values, runs = merge_neighbours(SWIN, (0.3, 0.3, 0.3, 0.32, 0.5, 0.5), 0.085)
    assert values == pytest.approx((0.3, 0.3, 0.31, 0.31, 0.5, 0.5)) and (2, 3) in runs and len(runs) == 5


@pytest.mark.parametrize('phases', [dict(length=2), [dict(sites=f'block{n}', length=2) for n in (9, 6, 3)]])
def test_merged_sites_are_switched_on_together(phases: list | dict) -> None:
    merged = plan(phases, merge=0.1, target=(0.3, 0.66, 0.7))
    assert merged.sparsity_at(0) == pytest.approx((0, 0.68, 0.68))
    assert merged.target == pytest.approx((0.3, 0.68, 0.68))
    assert merged.end == (4 if isinstance(phases, dict) else 6)


@pytest.mark.parametrize(
    ('phases', 'message'),
    [
        ([], 'must be a dict with length or tolerance, or a list'),
        ('block9', 'must be a dict with length or tolerance, or a list'),
        ([dict(length=2)], 'must be a dict with sites'),
        ([dict(sites=(), length=2)], 'must be a dict with sites'),
        (['block9'], 'must be a dict with sites'),
        ([dict(sites='block9')], 'need either length or end'),
        ([dict(sites='block9', length=2, end=2)], 'need either length or end'),
        (dict(begin=2), 'need length, a number'),
        (dict(length=2, end=3), "have no end: .* may have begin, length"),
        ([dict(site='block9', length=2)], 'must be a dict with sites'),
        ([dict(sites='block9', length=2, step=1)], 'have no step'),
        (dict(length=0), 'length in phases .* must be an integer from 1 on, got 0'),
        (dict(length=1.5), 'length in phases .* got 1.5'),
        ([dict(sites='block9', begin=-1, end=2)], 'begin in phases .* from 0 on, got -1'),
        ([dict(sites='block9', begin=2, end=2)], 'end=2 in phases .* greater than begin=2 of block9'),
        ([dict(sites='block9', begin=0, end=3), dict(sites='block6', begin=2, end=4)],
         'overlap: that of block9 is from 0 to 3, that of block6 is from 2 to 4'),
        ([dict(sites='block9', length=2), dict(sites=('block6', 'block9'), length=2)], 'block9 more than once'),
    ],
)  # fmt: skip
def test_what_cannot_be_read(phases: list | dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_phases(phases)


@pytest.mark.parametrize(
    ('phases', 'message'),
    [
        ([dict(sites=('block9', 'block7'), length=2)], 'block7, which the backbone has not: .* block3, block6, block9'),
        ([dict(sites='block9', length=2)], 'leave out block3, block6, whose sparsity is not 0'),
        ([dict(sites='block6', length=2), dict(sites='block9', length=2), dict(sites='block3', length=2)],
         'block6 comes before block9: that of block6 is from 0 to 2, that of block9 is from 2 to 4'),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_backbone(phases: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(phases)
