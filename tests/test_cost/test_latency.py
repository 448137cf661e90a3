import json
from dataclasses import replace
from itertools import groupby

import pytest
import torch
from torch import nn

from sparsevit_mm.cost import Environment, LatencyRecord, latency, measure_interleaved, measure_latency
from sparsevit_mm.models import SparseSwin

TINY = dict(embed_dims=16, num_heads=(1, 2), depths=(2, 2), strides=(4, 2), out_indices=(0, 1))
QUICK = dict(rounds=2, min_round_time=0.0, warmup=1)


def _environment(**changes) -> Environment:
    return replace(Environment.current(device='cpu', dtype='float32', batch=1, shape=(32, 32)), **changes)


def _compressed(names: list[str]) -> str:
    return ''.join(name for name, _ in groupby(names))


def test_rounds_are_interleaved():
    called, prepared, progress = [], [], []
    measure_interleaved(
        {name: lambda name=name: called.append(name) for name in 'ABC'},
        device='cpu',
        environment=_environment(),
        rounds=3,
        min_round_time=0,
        prepare=prepared.append,
        progress=lambda done, rounds: progress.append((done, rounds)),
    )
    assert _compressed(called) == 'ABC' * 4  # warm-up, then three rounds
    assert _compressed(prepared) == 'ABC' * 4
    assert progress == [(1, 3), (2, 3), (3, 3)]


class _Clock:
    """A timer whose rounds take what the call says."""

    def __init__(self, stmt, setup, globals, num_threads):
        self.call, self.prepare = globals['call'], globals['prepare']

    def blocked_autorange(self, min_run_time):
        self.prepare()
        self.median = self.call()
        return self


def test_median_and_quartiles_over_rounds(monkeypatch):
    monkeypatch.setattr(latency, 'Timer', _Clock)
    seconds = iter([9.0, 9.0, 9.0, 5.0, 1.0, 4.0, 2.0, 3.0])  # two warm-up calls and the one that memory is seen in
    record = measure_interleaved(
        {'a': lambda: next(seconds)}, device='cpu', environment=_environment(), rounds=5, warmup=2
    )['a']
    assert (record.q1, record.median, record.q3) == (2, 3, 4)
    assert (record.runs, record.warmup) == (5, 2)
    assert record.spread == pytest.approx(2 / 3)


def test_threads_of_the_environment_are_used_and_undone():
    seen, before = set(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        environment = _environment(threads=1)
        measure_interleaved(
            {'a': lambda: seen.add(torch.get_num_threads())}, device='cpu', environment=environment, **QUICK
        )
        assert (seen, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(rounds=0), 'rounds must be a positive integer, got 0'),
        (dict(warmup=-1), 'warmup must be an integer from 0 on'),
        (dict(min_round_time=float('nan')), 'min_round_time must be a number of seconds'),
        (dict(candidates={}), 'candidates is empty'),
        (dict(device='cuda:99'), 'cuda'),
    ],
)
def test_schedule_is_checked(changes, message):
    arguments = dict(candidates={'a': lambda: None}, device='cpu', environment=_environment())
    with pytest.raises(ValueError, match=message):
        measure_interleaved(**{**arguments, **changes})


def test_record_round_trip():
    record = LatencyRecord(1.0, 0.9, 1.2, 10, 2, None, _environment())
    assert LatencyRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    with pytest.raises(ValueError, match=r'LatencyRecord.*unknown speed'):
        LatencyRecord.from_dict({**record.to_dict(), 'speed': 1})


def test_one_record_without_sparsities():
    record = measure_latency(nn.Conv2d(3, 4, 3), (20, 24), batch=2, **QUICK)
    assert record.median > 0 and record.peak_memory >= 2 * 4 * 18 * 22 * 4
    environment = record.environment
    assert (environment.batch, environment.shape, environment.dtype) == (2, (20, 24), 'float32')


def test_each_sparsity_is_what_runs():
    backbone = SparseSwin(**TINY, sparsity=0.2).train()
    seen = []
    handle = backbone.register_forward_hook(
        lambda module, inputs, outputs: seen.append((module.sparsity, module.training, outputs[0].dtype))
    )
    records = measure_latency(backbone, (64, 64), sparsities=[0, (0.6, 0.3)], **QUICK)
    handle.remove()
    assert len(records) == 2
    assert [key for key, _ in groupby(seen)] == [
        ((sparsity), False, torch.float32) for _ in range(3) for sparsity in ((0, 0), (0.6, 0.3))
    ]
    assert backbone.sparsity == (0.2, 0.2) and backbone.training


def test_half_precision_is_by_autocast():
    layer, seen = nn.Conv2d(3, 4, 3), set()
    layer.register_forward_hook(lambda module, inputs, output: seen.add((output.dtype, module.weight.dtype)))
    record = measure_latency(layer, (16, 16), dtype='bfloat16', **QUICK)
    assert seen == {(torch.bfloat16, torch.float32)}
    assert record.environment.dtype == 'bfloat16'


def test_sparsity_is_checked_before_anything_runs():
    backbone = SparseSwin(**TINY)
    backbone.register_forward_hook(lambda *args: pytest.fail('ran'))
    with pytest.raises(ValueError, match='2 sites'):
        measure_latency(backbone, (64, 64), sparsities=[0, (0.1, 0.2, 0.3)])
    with pytest.raises(ValueError, match='sparsities is empty'):
        measure_latency(backbone, (64, 64), sparsities=[])
    with pytest.raises(ValueError, match='Conv2d has no sparsity to set'):
        measure_latency(nn.Conv2d(3, 4, 3), (64, 64), sparsities=[0])
    with pytest.raises(ValueError, match='threads must be a positive integer, got 0'):
        measure_latency(backbone, (64, 64), threads=0)


def test_half_weights_are_refused():
    with pytest.raises(ValueError, match=r'weights are bfloat16.*\.float\(\)'):
        measure_latency(nn.Conv2d(3, 4, 3).bfloat16(), (64, 64), dtype='bfloat16')


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='torch sees no CUDA device')
def test_cuda_brings_the_backbone_back():
    backbone = SparseSwin(**TINY)
    weight = backbone.patch_embed.projection.weight
    records = measure_latency(backbone, (64, 64), device='cuda', dtype='float16', sparsities=[0, 0.5], **QUICK)
    assert all(record.peak_memory > 0 for record in records)
    assert backbone.patch_embed.projection.weight is weight and weight.device.type == 'cpu'
