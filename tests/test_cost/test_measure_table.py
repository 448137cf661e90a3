"""Measuring tables: which settings run, what is timed, and that the backbone comes back."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from tables import FAMILIES, build
from torch import nn

from sparsevit_mm.cost import LatencyTable, block_clock, measure_latency_table
from sparsevit_mm.cost.block_clock import BlockClock
from sparsevit_mm.cost.measure_table import passes_of_a_round, staircases
from sparsevit_mm.models import DynamicSwin, PrunedViT, SparseSwin
from sparsevit_mm.sparsity import SparsityLayout

CHOICES = (0.0, 0.3, 0.6)


def test_staircases_let_every_site_meet_every_choice() -> None:
    layout = SparsityLayout(tuple('abcd'), (1, 3))
    stairs = staircases(layout, CHOICES)
    assert stairs == [
        (0, 0, 0, 0), (0, 0, 0, 0.3), (0, 0, 0.3, 0.6), (0.3, 0.3, 0.6, 0.6), (0.6, 0.6, 0.6, 0.6),
    ]  # fmt: skip
    assert all(layout.normalize(setting) == setting for setting in stairs)
    assert all(set(met) == set(CHOICES) for met in zip(*stairs))


@pytest.mark.parametrize('family', FAMILIES)
def test_a_table_of_each_family(family: str) -> None:
    backbone = build(family).train()
    backbone.sparsity = 0.25
    progress = []
    threads = torch.get_num_threads()
    table = measure_latency_table(
        backbone, (64, 96), choices=CHOICES, rounds=2, check=3, threads=1, progress=lambda *done: progress.append(done)
    )
    assert len(table.sites) == len(backbone.sites) and table.choices == CHOICES and table.rounds == 2
    assert all(0 < low <= mid <= high for site in table.sites for low, mid, high in zip(site.q1, site.median, site.q3))
    assert table.rest > 0 and table.dense == pytest.approx(table.predict(0))
    assert len({setting.sparsity for setting in table.check}) == 3
    for setting in table.check:
        assert setting.predicted == table.predict(setting.sparsity) and setting.measured > 0
    assert table.environment.threads == 1 and table.environment.shape == (64, 96)
    table.require(backbone, device='cpu', shape=(64, 96), threads=1)
    assert LatencyTable.from_dict(table.to_dict()) == table
    total = passes_of_a_round(backbone, CHOICES, 3)
    assert progress == [(done, total) for done in range(1, total + 1)], (
        'two rounds of settings, each run once and timed once'
    )
    assert backbone.training and set(backbone.sparsity) == {0.25} and torch.get_num_threads() == threads
    assert all('forward' not in vars(module) for module in backbone.modules())


class Clock:
    """Goes on by one whenever it is read, and by what is added."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(block_clock, 'time', clock)
    return clock


@pytest.mark.parametrize('family', FAMILIES)
def test_every_block_is_seen_and_the_parts_are_the_whole(family: str, ticks: Clock) -> None:
    """With a clock that counts how often it is read, a site gets as many ticks as it has blocks."""
    backbone = build(family).eval()
    clock = BlockClock(backbone, torch.device('cpu'))
    image = torch.rand(1, 3, 64, 96)
    owners = [site for stage in backbone.block_sites for site in stage]
    for sparsity in (0.0, 0.5):
        backbone.sparsity = sparsity
        with torch.no_grad():
            seconds = clock.time_sites(lambda: backbone(image))
        wanted = [owners.count(site) for site in range(len(backbone.sites))]
        assert seconds.tolist() == [*wanted, owners.count(None) + 1]


def test_what_runs_before_a_block_is_of_its_site(ticks: Clock) -> None:
    """A slow selector makes its site slow, and no other part."""
    backbone = build('PrunedViT').eval()
    backbone.sparsity = (0.3, 0.6)

    def sleep(*_: object) -> None:
        ticks.now += 100

    backbone.site_selectors[1].register_forward_pre_hook(sleep)
    clock = BlockClock(backbone, torch.device('cpu'))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert clock.time_sites(lambda: backbone(image)).tolist() == [1, 102, 2]
        assert clock.time(lambda: backbone(image)) == 101


def test_methods_beside_forward_are_seen(ticks: Clock) -> None:
    """A stage may call ``attend`` of a block by itself; what ``forward`` calls inside is not told apart."""
    backbone = build('DynamicSwin').eval()
    clock = BlockClock(backbone, torch.device('cpu'))
    block = backbone.stages[1].blocks[2]
    block.attend = own = lambda: None
    assert clock.time_sites(lambda: block.attend()).tolist() == [0, 1, 1]
    assert block.attend is own and 'forward' not in vars(block)
    assert clock.time_sites(own).tolist() == [0, 0, 1]


def test_a_block_that_fails_leaves_nothing_behind() -> None:
    backbone = build('SparseSwin').eval()
    clock = BlockClock(backbone, torch.device('cpu'))
    with pytest.raises(RuntimeError):
        clock.time_sites(lambda: backbone(torch.rand(1, 5, 64, 64)))
    assert all('forward' not in vars(module) for module in backbone.modules())


def test_checked_settings_are_a_function_of_the_seed() -> None:
    backbone = build('SparseSwin')
    options = dict(choices=CHOICES, rounds=1, threads=1)
    drawn = [
        [setting.sparsity for setting in measure_latency_table(backbone, (32, 32), check=4, seed=s, **options).check]
        for s in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    few = measure_latency_table(build('PrunedViT'), (32, 32), choices=(0, 0.5), rounds=1, threads=1, check=99)
    assert len(few.check) == 3


def test_medians_are_over_all_settings_in_which_a_choice_occurred(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = build('PrunedViT')

    def times(self: BlockClock, call: object) -> np.ndarray:
        return np.array([*(100 * value + i for i, value in enumerate(backbone.sparsity)), 7.0])

    monkeypatch.setattr(BlockClock, 'time_sites', times)
    table = measure_latency_table(backbone, (32, 32), choices=CHOICES, rounds=2, threads=1)
    assert [site.median for site in table.sites] == [(0, 30, 60), (1, 31, 61)] and table.rest == 7


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(choices=(0.1, 0.5)), 'choices of a latency table must ascend from 0'),
        (dict(choices=(0, 0.5, 0.5)), 'choices of a latency table must ascend from 0'),
        (dict(choices=(0,)), 'at least two of them'),
        (dict(rounds=0), 'rounds must be a positive integer'),
        (dict(forwards=0), 'forwards must be an integer from 1 on, got 0'),
        (dict(check=-1), 'check must be an integer from 0 on, got -1'),
        (dict(threads=0), 'threads must be a positive integer'),
        (dict(dtype='int8'), 'dtype must be one of'),
        (dict(device='tpu'), "device must be 'cpu'"),
    ],
)
def test_arguments_are_checked_before_anything_runs(options: dict, message: str) -> None:
    backbone = build('SparseSwin')
    backbone.register_forward_hook(lambda *_: pytest.fail('ran'))
    with pytest.raises(ValueError, match=message):
        measure_latency_table(backbone, (64, 64), **options)


def test_adaptive_counts_are_refused_and_their_table_is_that_of_fixed_ones() -> None:
    arguments = dict(img_size=64, patch_size=8, embed_dims=32, num_layers=4, num_heads=4, site_blocks=(1, 2))
    selector = dict(type='sparsevit_mm.PredictorSelector', draw='gumbel')
    adaptive = PrunedViT(**arguments, counts='adaptive', selector=selector)
    with pytest.raises(ValueError, match=r"PrunedViT has counts='adaptive'.*measure it with counts='fixed'"):
        measure_latency_table(adaptive, (64, 64))
    table = measure_latency_table(PrunedViT(**arguments), (32, 32), choices=(0, 0.5), rounds=1, threads=1)
    table.require(adaptive)


def test_packed_windows_are_measured_too() -> None:
    backbone = SparseSwin(
        embed_dims=16, num_heads=(1, 2), depths=(2, 4), strides=(4, 2), out_indices=(0, 1), window_size=4,
        selector=dict(type='sparsevit_mm.MultiHeadSelector'), bypass='package',
    )  # fmt: skip
    table = measure_latency_table(backbone, (64, 96), choices=CHOICES, rounds=1, threads=1)
    assert all(min(site.median) > 0 for site in table.sites)
    with pytest.raises(ValueError, match='differs in widths, depths, selector or bypass'):
        table.require(build('SparseSwin'))


def test_blocks_that_are_elsewhere_are_said() -> None:
    backbone = build('DynamicSwin')
    assert isinstance(backbone, DynamicSwin) and len(list(pairwise(backbone.stages))) == 1
    backbone.stages = nn.ModuleList(backbone.stages[:1])
    with pytest.raises(ValueError, match=r'DynamicSwin has stages of \[1\] blocks, but block_sites names \[1, 4\]'):
        BlockClock(backbone, torch.device('cpu'))


@pytest.mark.cuda
def test_cuda_times_are_those_of_events() -> None:
    table = measure_latency_table(build('SparseSwin'), (64, 96), device='cuda', choices=CHOICES, rounds=2, check=1)
    assert table.environment.device == 'cuda' and min(site.median[0] for site in table.sites) > 0
