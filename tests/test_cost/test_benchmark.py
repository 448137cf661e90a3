from itertools import groupby

import pytest
import torch
from torch import nn

from sparsevit_mm.cost import measure_macs
from sparsevit_mm.cost.benchmark import run_benchmark
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


def test_what_does_not_run_is_said():
    subject = _subject()
    broken = Subject('a', subject.model, subject.sparse, subject.sparsities, _Broken(3, 4, 3), _Broken(3, 4, 3), 'x')
    with pytest.raises(ValueError, match=r'_Broken of a \(stock\) does not run.*"op" not implemented for BFloat16 '):
        run_benchmark([broken], (32, 32), dtype='bfloat16', **QUICK)
    assert subject.sparse.sparsity == (0.1, 0.1)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(shape=(0, 3)), 'shape must be'),
        (dict(batch=0), 'batch must be'),
        (dict(dtype='int8'), 'dtype must be one of'),
        (dict(rounds=0), 'rounds must be'),
        (dict(threads=-1), 'threads must be'),
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
