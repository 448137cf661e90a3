import pytest
from torch import nn

from sparsevit_mm.cost import count_macs
from sparsevit_mm.models import SparseSwin
from sparsevit_mm.search.costs import LatencyCost, MacsCost


@pytest.fixture
def backbone(tiny_swin_cfg):
    return SparseSwin(**tiny_swin_cfg)


class Record:
    def __init__(self, median):
        self.median, self.spread = median, 0.05

    def to_dict(self):
        return {'median': self.median}


class Stopwatch:
    """A machine that gets slower by half with every measurement, where time is proportional to what is kept."""

    def __init__(self):
        self.factor, self.calls = 1.0, []

    def __call__(self, backbone, shape, *, sparsities, **options):
        self.calls.append(sparsities)
        self.factor *= 1.5
        means = [sum(backbone.sparsity_layout.normalize(s)) / len(backbone.sites) for s in sparsities]
        return [Record(self.factor * (1 - mean)) for mean in means]


def test_macs_are_those_counted(backbone):
    cost = MacsCost(backbone, (64, 96), choices=(0.0, 0.5))
    calibration = cost.calibrate()
    dense = count_macs(backbone, (64, 96))
    backbone.sparsity = 0.5
    assert calibration == {'dense': dense, 'least': count_macs(backbone, (64, 96))}
    backbone.sparsity = (0.25, 0.25, 0.5)
    present = count_macs(backbone, (64, 96))
    assert cost.cost(0.5) == calibration['least']
    assert cost.cost((0.25, 0.25, 0.5)) == cost.estimate((0.25, 0.25, 0.5)) == present
    assert backbone.sparsity == (0.25, 0.25, 0.5)


def test_macs_of_a_setting_are_quick_enough_to_ask_for_any(backbone):
    cost = MacsCost(backbone, (64, 64))
    space = backbone.sparsity_space((0.0, 0.5, 0.8))
    costs = [cost.cost(sparsity) for sparsity in space]
    assert min(costs) == cost.cost(0.8) and max(costs) == cost.cost(0.0)


def test_drift_of_the_machine_cancels(backbone):
    stopwatch = Stopwatch()
    cost = LatencyCost(backbone, (64, 64), measure=stopwatch)
    dense = cost.calibrate()['dense']
    assert [cost.cost(0.5) for _ in range(4)] == [pytest.approx(dense / 2)] * 4
    assert all(sparsities[0] == 0.0 for sparsities in stopwatch.calls), 'dense is measured in alternation'


def test_calibration_is_taken_over(backbone):
    stopwatch = Stopwatch()
    first = LatencyCost(backbone, (64, 64), measure=stopwatch)
    state = first.calibrate()
    again = LatencyCost(backbone, (64, 64), measure=stopwatch)
    assert again.calibrate(state) == state and len(stopwatch.calls) == 1
    assert again.tolerance == pytest.approx(0.05 / again.rounds**0.5)
    assert again.cost(0.25) == pytest.approx(0.75 * state['dense'])


def test_estimate_agrees_at_both_ends(backbone):
    cost = LatencyCost(backbone, (64, 64), measure=Stopwatch())
    state = cost.calibrate()
    assert cost.estimate(0.0) == pytest.approx(state['dense'])
    assert cost.estimate(0.8) == pytest.approx(state['least'])
    assert state['least'] < cost.estimate(0.5) < state['dense']


def test_measured_for_real(backbone):
    cost = LatencyCost(backbone, (64, 64), rounds=2, min_round_time=0.01)
    state = cost.calibrate()
    assert min(state['least'], state['dense'], cost.cost(0.8)) > 0
    assert state['records']['dense']['environment']['shape'] == [64, 64]
    assert backbone.training and isinstance(backbone, nn.Module)


def test_conditions_name_what_latencies_cannot_be_compared_across(backbone):
    conditions = LatencyCost(backbone, (64, 64), batch=2).conditions()
    assert set(conditions) == {'device', 'device_name', 'dtype', 'batch', 'shape', 'threads'}
    assert conditions['batch'] == 2
