"""Rows of a benchmark held to a budget."""

from dataclasses import replace

import pytest
from torch import nn

from sparsevit_mm.budget import Budget
from sparsevit_mm.cost import Environment, LatencyRecord
from sparsevit_mm.cost.benchmark_report import BenchmarkReport, Row
from sparsevit_mm.cost.budget_check import judge, parse_latency_budget, with_dense
from sparsevit_mm.cost.subjects import Subject
from sparsevit_mm.models import SparseSwin

ENVIRONMENT = Environment('cpu', 'a processor', 'float32', 1, (64, 96), 2, '2.0', '3.11', 'Linux')
TINY = dict(embed_dims=16, num_heads=(1, 2), depths=(2, 2), strides=(4, 2), out_indices=(0, 1))


def row(sparsity: tuple[float, ...] | None, median: float, config: str = 'a', architecture: int = 0) -> Row:
    latency = LatencyRecord(median, median * 0.9, median * 1.1, 10, 2, None, ENVIRONMENT)
    model = 'Swin' if sparsity is None else 'SparseSwin'
    return Row(config, model, sparsity, 100, latency, architecture=architecture)


def subject(*sparsities: tuple[float, ...], config: str = 'a') -> Subject:
    backbone = SparseSwin(**TINY)
    return Subject(config, backbone, backbone, sparsities)


REPORT = BenchmarkReport('the backbone', ENVIRONMENT, (row(None, 3.0), row((0, 0), 2.0), row((0, 0.5), 1.0)))


@pytest.mark.parametrize(
    ('text', 'limit'), [('30', 0.03), ('30ms', 0.03), (' 0.5 ', 0.0005), ('2s', 2), ('60%', 1.2), ('100%', 2)]
)
def test_what_is_written_is_milliseconds_or_a_share_of_dense(text: str, limit: float) -> None:
    assert parse_latency_budget(text).limit(2.0) == pytest.approx(limit)


@pytest.mark.parametrize('text', ['0', '-1', '0ms', '0%', '101%', 'nan', 'inf', '3G', 'x', ''])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(ValueError, match='budget'):
        parse_latency_budget(text)


def test_sparse_rows_that_were_asked_for_are_held_to_it() -> None:
    asked = [subject((0.0, 0.0), (0.0, 0.5))]
    (verdict,) = judge(REPORT, Budget(1.05, relative=False), asked)
    assert verdict.row is REPORT.rows[2] and verdict.kept
    assert verdict.sentence() == (
        'Within budget: SparseSwin at sparsity 0,0.5 (a) takes 1000 ms, 4.8% less than the 1050 ms; the upper quartile '
        'is over it, so give more rounds to be sure.'
    )
    (verdict,) = judge(REPORT, Budget(0.4), asked)
    assert verdict.limit == pytest.approx(0.8) and not verdict.kept
    assert verdict.sentence() == (
        'OVER BUDGET: SparseSwin at sparsity 0,0.5 (a) takes 1000 ms, 25.0% more than the 800 ms (0.4 of dense).'
    )
    assert verdict.to_dict() == {
        'config': 'a', 'sparsity': [0, 0.5], 'latency': 1.0, 'limit': verdict.limit, 'share_of_dense': 0.4,
        'kept': False,
    }  # fmt: skip


def test_a_dense_row_is_held_to_it_where_there_is_no_other() -> None:
    (verdict,) = judge(REPORT, Budget(1.0, relative=False), [subject((0.0, 0.0))])
    assert verdict.row is REPORT.rows[1] and not verdict.kept


def test_each_config_is_compared_with_its_own_dense_model() -> None:
    others = (row((0, 0), 10.0, 'b', 1), row((0, 0.5), 4.0, 'b', 1))
    report = replace(REPORT, rows=REPORT.rows + others)
    asked = [subject((0.0, 0.5)), subject((0.0, 0.5), config='b')]
    assert [verdict.limit for verdict in judge(report, Budget(0.5), asked)] == [1, 5]


def test_the_dense_model_is_timed_once() -> None:
    assert with_dense(subject((0.5, 0.5))).sparsities == ((0, 0), (0.5, 0.5))
    there = subject((0.5, 0.5), (0.0, 0.0))
    assert with_dense(there) is there and isinstance(there.sparse, nn.Module)
