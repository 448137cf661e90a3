"""Tables by latencies of whole backbones: what they recover, and what cannot be one."""

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tables import ENVIRONMENT, build

from sparsevit_mm.cost import LatencyTable, fit_to_budget, table_from_latencies
from sparsevit_mm.cost.backbone_identity import BackboneIdentity
from sparsevit_mm.cost.whole_latencies import determining_settings
from sparsevit_mm.sparsity import DEFAULT_CHOICES, SparsityLayout, SparsitySpace

RUNTIME = replace(ENVIRONMENT, device='onnxruntime', device_name='a phone')
CHOICES = (0.0, 0.3, 0.6, 0.8)
GROUPS = {'Swin-T': (1, 1, 3, 1), 'ViT': (12,), 'one': (1,), 'two': (2, 2)}


def identity(groups: Sequence[int]) -> BackboneIdentity:
    names = tuple(f'stage{i}.pair{j}' for i, size in enumerate(groups, 1) for j in range(1, size + 1))
    return BackboneIdentity('SparseSwin', names, tuple(groups))


class Device:
    """A machine on which a site takes less the sparser it is, not in proportion; slower by up to half for a while."""

    def __init__(self, sites: int, noise: float = 0.0) -> None:
        self.sizes = [0.002 * (1 + site % 3) for site in range(sites)]
        self.noise, self.generator, self.calls = noise, random.Random(1), []

    def site(self, index: int, sparsity: float) -> float:
        return self.sizes[index] * (1 - sparsity) ** 1.3 + (0.0002 if sparsity else 0)

    def whole(self, sparsity: Sequence[float]) -> float:
        return 0.004 + sum(self.site(index, value) for index, value in enumerate(sparsity))

    def __call__(self, sparsity: tuple[float, ...]) -> float:
        self.calls.append(sparsity)
        return self.whole(sparsity) * (1 + self.generator.uniform(-self.noise, self.noise))


@pytest.mark.parametrize('groups', GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize(('noise', 'error'), [(0.0, 1e-9), (0.01, 0.01)])
def test_latencies_are_recovered(groups: Sequence[int], noise: float, error: float) -> None:
    device = Device(sum(groups), noise)
    table = table_from_latencies(identity(groups), RUNTIME, CHOICES, device, rounds=9)
    assert table.dense == pytest.approx(device.whole([0.0] * sum(groups)), rel=error)
    assert table.least == pytest.approx(device.whole([0.8] * sum(groups)), rel=error)
    space, generator = SparsitySpace(table.layout, CHOICES), random.Random(2)
    settings = [space.sample(generator) for _ in range(50)]
    errors = [abs(table.predict(setting) / device.whole(setting) - 1) for setting in settings]
    assert np.median(errors) < error / 2 and max(errors) < 1.5 * error
    for index, site in enumerate(table.sites):
        savings = np.array(site.median) - site.median[-1]
        wanted = [device.site(index, choice) - device.site(index, 0.8) for choice in CHOICES]
        assert savings == pytest.approx(wanted, abs=error * table.dense)
        assert min(site.median) == 0, 'what a site takes at its fastest cannot be told from the rest'
    assert table.rest > 0 and table.rounds == 9 and table.environment == RUNTIME


def test_what_came_out_of_it_is_a_table_like_any_other(tmp_path) -> None:
    backbone = build('SparseSwin')
    device = Device(len(backbone.sites))
    table = table_from_latencies(BackboneIdentity.of(backbone), RUNTIME, CHOICES, device, check=3)
    table.save(tmp_path / 'table.json')
    assert LatencyTable.load(tmp_path / 'table.json') == table
    table.require(backbone, device='onnxruntime', shape=RUNTIME.shape)
    sparsity = fit_to_budget(table, '60%')
    assert 0.5 < device.whole(sparsity) / device.whole([0.0] * len(sparsity)) < 0.6
    with pytest.raises(ValueError, match=r'device: onnxruntime in the table, cpu wanted\. Measure one'):
        table.require(backbone, device='cpu')
    with pytest.raises(ValueError, match=r'Measure one for what is wanted: on a phone, see docs/latency_budget\.md'):
        table.require(backbone, shape=(1, 1))


def test_the_check_is_of_settings_that_it_was_not_solved_by() -> None:
    device, made_for = Device(6), identity(GROUPS['Swin-T'])
    table = table_from_latencies(made_for, RUNTIME, CHOICES, device, rounds=2, check=7)
    solved = set(determining_settings(table.layout, CHOICES))
    assert len(table.check) == 7 and not solved & {setting.sparsity for setting in table.check}
    assert max(table.check_errors()) < 1e-9
    assert len(device.calls) == 2 * (len(solved) + 7)
    few = table_from_latencies(identity((1,)), RUNTIME, CHOICES, Device(1), check=5)
    assert few.check == (), 'there are no other settings'


def test_a_slow_while_meets_all_settings() -> None:
    """Every second round is slower by half, and the medians are over three and two of them."""
    device = Device(6)
    number = len(determining_settings(SparsityLayout(*_named(GROUPS['Swin-T'])), CHOICES))

    def drifting(sparsity: tuple[float, ...]) -> float:
        slow = 1.5 if len(device.calls) // number % 2 else 1.0
        return slow * device(sparsity)

    table = table_from_latencies(identity(GROUPS['Swin-T']), RUNTIME, CHOICES, drifting, rounds=5)
    assert table.dense == pytest.approx(device.whole([0.0] * 6))
    assert device.calls[:number] != device.calls[number : 2 * number], 'the order is drawn anew'


@pytest.mark.parametrize('groups', GROUPS.values(), ids=GROUPS)
def test_settings_determine_every_site_and_are_allowed(groups: Sequence[int]) -> None:
    layout = SparsityLayout(*_named(groups))
    for choices in (CHOICES, DEFAULT_CHOICES, (0.0, 0.5)):
        settings = determining_settings(layout, choices)
        assert len(set(settings)) == len(settings) and all(layout.normalize(s) == s for s in settings)
        unknowns = 1 + len(layout.sites) * (len(choices) - 1)
        columns = [[1.0, *(float(s == c) for s in setting for c in choices[1:])] for setting in settings]
        assert np.linalg.matrix_rank(np.array(columns)) == unknowns
        assert len(settings) >= min(1.5 * unknowns, len(SparsitySpace(layout, choices)))
        assert len(settings) < 3 * unknowns, 'each of them is a run'


def test_progress_counts_the_calls() -> None:
    device, seen = Device(1), []
    table_from_latencies(identity((1,)), RUNTIME, CHOICES, device, rounds=3, progress=lambda *done: seen.append(done))
    assert seen == [(i, 12) for i in range(1, 13)] and len(device.calls) == 12


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(choices=(0.3, 0.6)), 'choices of a latency table must ascend from 0'),
        (dict(rounds=0), 'rounds must be a positive integer'),
        (dict(time_setting=lambda setting: float('nan')), r'time_setting must return seconds above 0, .* nan for \('),
        (dict(time_setting=lambda setting: -1.0), 'time_setting must return seconds above 0'),
    ],
)
def test_mistakes_are_said(options: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = dict(choices=CHOICES, time_setting=Device(2)) | options
    with pytest.raises(ValueError, match=message):
        table_from_latencies(identity((1, 1)), RUNTIME, **arguments)


def test_latencies_that_are_no_sum_are_refused() -> None:
    """On this device any sparsity anywhere saves nearly all, so that two sites save more than there is."""
    with pytest.raises(ValueError, match='are no sum over the sites'):
        table_from_latencies(identity((1, 1)), RUNTIME, (0.0, 0.5), lambda setting: 1e-4 if any(setting) else 0.01)


def _named(groups: Sequence[int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    made = identity(groups)
    return made.sites, made.groups
