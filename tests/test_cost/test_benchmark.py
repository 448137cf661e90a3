from dataclasses import replace
from functools import partial
from itertools import groupby

import pytest
import torch
from torch import nn

from sparsevit_mm.cost import measure_macs
from sparsevit_mm.cost.benchmark import check_together, run_benchmark
from sparsevit_mm.cost.subjects import Subject
from sparsevit_mm.models import SparseSwin

TINY = dict(embed_dims=16, num_heads=(1, 2), depths=(2, 2), strides=(4, 2), out_indices=(0, 1))
QUICK = dict(rounds=2, min_round_time=0.0, warmup=1)


def _subject(
    name: str = 'a', sparsities=((0.0, 0.0), (0.6, 0.3)), stock: bool = True, architecture: str = 'x'
) -> Subject:
    sparse, dense = SparseSwin(**TINY, sparsity=0.1), SparseSwin(**TINY)
    return Subject(name, sparse, sparse, sparsities, dense if stock else None, dense if stock else None, architecture)


def test_stock_comes_first_and_each_row_is_its_sparsity():
    subject = _subject()
    ran = []
    subject.sparse.register_forward_hook(lambda module, *_: ran.append(module.sparsity))
    subject.stock.register_forward_hook(lambda module, *_: ran.append(None))
    report = run_benchmark([subject], (64, 64), batch=2, **QUICK)
    order = [None, (0.0, 0.0), (0.6, 0.3)]
    assert [row.sparsity for row in report.rows] == order
    assert [key for key, _ in groupby(ran)] == order * 4  # counting, warm-up, two rounds
    assert report.environment.batch == 2 and report.scope == 'the backbone alone'
    assert subject.sparse.sparsity == (0.1, 0.1) and subject.sparse.training and subject.stock.training


def test_macs_are_those_of_one_image():
    subject = _subject()
    report = run_benchmark([subject], (64, 64), batch=2, **QUICK)
    for row in report.rows[1:]:
        subject.sparse.sparsity = row.sparsity
        assert row.macs == measure_macs(subject.sparse, (64, 64))


def test_one_stock_row_for_each_architecture():
    subjects = [_subject('a'), _subject('b'), _subject('c', architecture='y'), _subject('d', stock=False)]
    report = run_benchmark(subjects, (32, 32), **QUICK)
    assert [(row.config, row.sparsity is None) for row in report.rows] == [
        ('a', True), ('a', False), ('a', False),
        ('b', False), ('b', False),
        ('c', True), ('c', False), ('c', False),
        ('d', False), ('d', False),
    ]  # fmt: skip
    assert [row.architecture for row in report.rows] == [0, 0, 0, 0, 0, 1, 1, 1, 0, 0]


class _Broken(nn.Conv2d):
    def forward(self, x):
        raise NotImplementedError('"op" not implemented for BFloat16\nmore')


class _Hungry(nn.Conv2d):
    def forward(self, x):
        return torch.empty(2**60)


def _with_stock(stock: nn.Module) -> Subject:
    return replace(_subject(), stock=stock, stock_model=stock)


def test_a_row_that_does_not_run_says_so_and_the_others_are_timed():
    report = run_benchmark([_with_stock(_Broken(3, 4, 3))], (32, 32), dtype='bfloat16', **QUICK)
    stock, dense, sparse = report.rows
    assert stock.error.startswith('does not run at this shape, dtype and device: "op" not implemented for BFloat16.')
    assert stock.latency is None and dense.latency.median > 0 and sparse.latency.median > 0
    assert report.speed_up(dense) == 1 and report.speed_up(stock) is None
    assert report.failures() == [f'stock _Broken (a) {stock.error}']


def test_want_of_memory_is_said():
    report = run_benchmark([_with_stock(_Hungry(3, 4, 3))], (32, 32), **QUICK)
    assert report.rows[0].error.startswith('needs more memory than there is: use a smaller shape or batch.')
    assert [row.error for row in report.rows[1:]] == [None, None]


def test_where_no_row_runs_that_is_an_error():
    subject = replace(_with_stock(_Broken(3, 4, 3)), sparsities=())
    with pytest.raises(ValueError, match=r'_Broken of a \(stock\) does not run .*"op" not implemented for BFloat16\.$'):
        run_benchmark([subject], (32, 32), **QUICK)
    assert subject.sparse.sparsity == (0.1, 0.1)


def test_training_steps_are_timed_with_their_macs():
    subject = _subject(stock=False)
    forward = run_benchmark([subject], (64, 64), **QUICK)
    seen = []
    subject.sparse.register_forward_hook(lambda module, *_: seen.append(module.training))
    report = run_benchmark([subject], (64, 64), training=True, **QUICK)
    assert set(seen) == {True} and report.training and report.scope.startswith('a training step of the backbone')
    for step, row in zip(report.rows, forward.rows):
        assert 2.5 * row.macs < step.macs < 3 * row.macs  # the image needs no gradient
        assert step.latency.peak_memory > row.latency.peak_memory
    assert report.realised_share(report.rows[1]) > 0


def test_the_roof_is_timed_for_ours():
    stock, *ours = run_benchmark([_subject()], (64, 64), roof=True, **QUICK).rows
    assert stock.roof is None and stock.distance is None
    for row in ours:
        assert row.distance == pytest.approx(row.latency.median / row.roof.median)
        assert 0.5 < row.roof_share < 1


def test_modes_stand_beside_each_other(monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr(torch, 'compile', partial(torch.compile, backend='eager'))  # without code generation
    subject = _with_stock(nn.Conv2d(3, 4, 3))
    report = run_benchmark([subject], (32, 32), modes=('eager', 'compiled'), **QUICK)
    assert [(row.sparsity is None, row.mode) for row in report.rows] == [
        (True, 'eager'), (True, 'compiled'), *[(False, 'eager')] * 2, *[(False, 'compiled')] * 2
    ]  # fmt: skip
    eager, compiled = report.rows[:2]
    assert eager.compile_seconds is None and compiled.compile_seconds > 0 and compiled.latency.median > 0
    assert eager.macs == compiled.macs


@pytest.mark.parametrize(
    ('asked', 'message'),
    [
        (dict(modes=['eager', 'onnxruntime'], whole_model=True), '--backend onnxruntime is for the backbone alone'),
        (dict(modes=['eager'], whole_model=True, training=True), '--train is for the backbone alone'),
        (dict(modes=['eager'], whole_model=True, roof=True), '--roof is for the backbone alone'),
        (dict(modes=['eager'], training=True, roof=True), '--roof is of a forward: leave it out with --train'),
        (dict(modes=['graphs'], training=True), "'graphs' captures a forward: leave it out with --train"),
    ],
)
def test_what_does_not_go_together_is_said(asked, message):
    with pytest.raises(ValueError, match=message):
        check_together(**asked)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(shape=(0, 3)), 'shape must be'),
        (dict(batch=0), 'batch must be'),
        (dict(dtype='int8'), 'dtype must be one of'),
        (dict(rounds=0), 'rounds must be'),
        (dict(threads=-1), 'threads must be'),
        (dict(modes=['graphs']), 'captures CUDA graphs'),
        (dict(training=True, roof=True), 'leave it out with --train'),
        (dict(subjects=[]), 'at least one subject'),
    ],
)
def test_arguments_are_checked_before_anything_runs(changes, message):
    subject = _subject()
    subject.sparse.register_forward_hook(lambda *_: pytest.fail('ran'))
    with pytest.raises(ValueError, match=message):
        run_benchmark(**{**dict(subjects=[subject], shape=(64, 64)), **changes})


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
def test_missing_cuda_is_said():
    with pytest.raises(ValueError, match='sees no CUDA device'):
        run_benchmark([_subject()], (64, 64), device='cuda')
