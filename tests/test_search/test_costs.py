import random
import time

import pytest

from sparsevit_mm.cost import count_macs
from sparsevit_mm.models import SparseSwin
from sparsevit_mm.search.costs import COST_MODELS, MacsCost


@pytest.fixture
def backbone(tiny_swin_cfg):
    return SparseSwin(**tiny_swin_cfg)


def test_macs_are_those_counted(backbone):
    cost = MacsCost(backbone, (64, 96), choices=(0.0, 0.5))
    assert cost.calibrate() == {'dense': count_macs(backbone, (64, 96))}
    assert cost.calibrate({'dense': 1}) == cost.calibrate(), 'counted again, whatever a study holds'
    for sparsity in (0.5, (0.25, 0.25, 0.5)):
        backbone.sparsity = sparsity
        present = count_macs(backbone, (64, 96))
        backbone.sparsity = 0.125
        assert cost.cost(sparsity) == present
    assert set(backbone.sparsity) == {0.125}


def test_settings_that_are_none_are_refused(backbone):
    cost = MacsCost(backbone, (64, 64))
    with pytest.raises(ValueError, match='must not decrease within a stage'):
        cost.cost((0.0, 0.5, 0.0))
    with pytest.raises(ValueError, match='has 2 values'):
        cost.cost((0.0, 0.5))


def test_conditions_are_the_size_of_the_image(backbone):
    assert MacsCost(backbone, [64, 96]).conditions() == {'shape': [64, 96]}
    assert MacsCost(backbone, (64, 96)).describe() == {'MACs': 'counted in closed form for one image of 64x96 pixels'}
    assert MacsCost(backbone, (64, 96)).doubt() is None


def test_a_large_backbone_is_counted_quickly_enough_to_ask_for_any_setting():
    """As many as a search asks for at once: each site at each choice, and some at random. A setting is counted once."""
    backbone = SparseSwin(embed_dims=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24))
    cost, space, rng = MacsCost(backbone, (800, 1344)), backbone.sparsity_space(), random.Random(0)
    settings = [space.sample(rng) for _ in range(6 * 9 + 64)]
    start = time.process_time()
    costs = [cost.cost(setting) for setting in settings]
    counted = time.process_time()
    assert [cost.cost(setting) for setting in settings] == costs
    assert counted - start < 3, 'about 0.5 s on an idle core'
    assert time.process_time() - counted < (counted - start) / 10


def test_names_of_the_command_line_are_those_of_the_models():
    assert {name: (model.name, model.unit) for name, model in COST_MODELS.items()} == {
        'latency': ('latency', 's'),
        'macs': ('macs', 'MACs'),
    }
