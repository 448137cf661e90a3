import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from sparsevit_mm.cost import Environment, LatencyRecord
from sparsevit_mm.cost.benchmark_report import BenchmarkReport, Row

ENVIRONMENT = Environment('cpu', 'a processor', 'float32', 1, (64, 96), 2, '2.0', '3.11', 'Linux')


def _latency(median: float, spread: float = 0.0) -> LatencyRecord:
    return LatencyRecord(median, median * (1 - spread / 2), median * (1 + spread / 2), 10, 2, 3_000_000, ENVIRONMENT)


def _row(sparsity, median: float, macs: int, spread: float = 0.0, **more) -> Row:
    model = 'Swin' if sparsity is None else 'SparseSwin'
    return Row('a', model, sparsity, macs, _latency(median, spread), **more)


def _report(*rows: Row) -> BenchmarkReport:
    return BenchmarkReport('the backbone alone', ENVIRONMENT, rows)


STOCK = _row(None, 2.0, 100)
OURS = _row((0.0, 0.0), 1.5, 100)
SPARSE = _row((0.5, 0.6), 1.0, 50)


def test_speed_up_is_over_the_first_row():
    report = _report(STOCK, OURS, SPARSE)
    assert [report.speed_up(row) for row in report.rows] == [1, pytest.approx(4 / 3), 2]


def test_realised_share_is_against_our_dense_row():
    report = _report(STOCK, OURS, SPARSE)
    assert report.realised_share(SPARSE) == pytest.approx(1.5 / 2)
    assert report.realised_share(STOCK) is None and report.realised_share(OURS) is None


def test_realised_share_without_our_dense_row():
    assert _report(STOCK, SPARSE).realised_share(SPARSE) == pytest.approx(2 / 2)
    assert _report(SPARSE).realised_share(SPARSE) is None


def test_realised_share_stays_within_an_architecture():
    other = _row((0.5,), 1.0, 10, architecture=1)
    assert _report(STOCK, other).realised_share(other) is None


def test_slower_than_the_fastest_dense_row_is_said():
    slow = _row((0.1, 0.1), 1.6, 95)
    assert _report(STOCK, OURS, slow, SPARSE).findings() == [
        'SparseSwin at sparsity 0.1 is not faster than dense here: it takes 1600 ms, and SparseSwin at sparsity 0 '
        'takes 1500 ms.'
    ]


def test_within_the_spread_is_said():
    close = _row((0.1, 0.2), 1.45, 95, spread=0.1)
    (finding,) = _report(OURS, close).findings()
    assert finding.startswith('SparseSwin at sparsity 0.1,0.2 is faster than dense by less than the spread here')


def test_wide_spread_warns():
    assert _report(STOCK, SPARSE).warnings() == []
    (warning,) = _report(STOCK, _row((0.5, 0.5), 1.0, 50, spread=0.08)).warnings()
    assert 'SparseSwin at sparsity 0.5 8%' in warning and 'stock' not in warning


def test_json_holds_rows_and_environment():
    values = json.loads(json.dumps(_report(STOCK, OURS, SPARSE).to_dict()))
    assert Environment.from_dict(values['environment']) == ENVIRONMENT
    assert [row['sparsity'] for row in values['rows']] == [None, [0, 0], [0.5, 0.6]]
    last = values['rows'][-1]
    assert LatencyRecord.from_dict(last['latency']) == SPARSE.latency
    assert (last['macs'], last['macs_ratio'], last['speed_up']) == (50, 2, 2)
    assert last['realised_share'] == pytest.approx(0.75)


def _printed(report: BenchmarkReport) -> str:
    console = Console(width=200, file=StringIO())
    console.print(report.table())
    return console.file.getvalue()


def test_table_shows_the_figures():
    text = _printed(_report(STOCK, OURS, SPARSE))
    for part in ('stock Swin', '0.5,0.6', '2000', '3.0', '2.00x', '75%', 'a processor', '64x96'):
        assert part in text
    assert 'config' not in text and 'backbone share' not in text


def test_table_of_whole_models_shows_the_share_of_the_backbone():
    row = _row((0.5,), 2.0, 10, backbone_latency=_latency(0.5))
    assert _report(row).to_dict()['rows'][0]['backbone_share'] == 0.25
    assert 'backbone share' in _printed(_report(row)) and '25%' in _printed(_report(row))


def test_long_names_of_configs_are_not_cut():
    name = 'a_config_with_a_name_that_is_longer_than_any_column_of_the_table_' * 3
    rows = [replace(STOCK, config=name), SPARSE]
    assert '\N{HORIZONTAL ELLIPSIS}' not in _printed(_report(*rows)) and 'config' in _printed(_report(*rows))


FAILED = replace(STOCK, latency=None, macs=None, error='does not run at this shape: no.')


def test_a_row_that_did_not_run_is_in_table_and_json():
    report = _report(FAILED, OURS, SPARSE)
    assert [report.speed_up(row) for row in report.rows] == [None, 1, 1.5]
    assert report.realised_share(SPARSE) == pytest.approx(1.5 / 2) and report.realised_share(FAILED) is None
    assert report.failures() == ['stock Swin (a) does not run at this shape: no.']
    assert any('first row that ran, SparseSwin at sparsity 0' in note for note in report.notes())
    assert 'error' in _printed(report) and report.findings() == report.warnings() == []
    values = json.loads(json.dumps(report.to_dict()))
    assert values['failures'] == report.failures()
    assert values['rows'][0]['error'] == FAILED.error and values['rows'][0]['latency'] is None
    assert [row['macs_ratio'] for row in values['rows']] == [None, 1, 2]


def test_rows_are_held_against_dense_ones_of_their_mode():
    compiled = [replace(row, mode='compiled', compile_seconds=3.25) for row in (OURS, SPARSE)]
    slow = replace(compiled[0], latency=_latency(3.0))
    report = _report(STOCK, OURS, SPARSE, slow, compiled[1])
    assert report.realised_share(SPARSE) == pytest.approx(1.5 / 2)
    assert report.realised_share(compiled[1]) == pytest.approx(3 / 2)
    assert report.to_dict()['rows'][-1]['mode'] == 'compiled' and compiled[1].name.endswith('(compiled)')
    text = _printed(report)
    assert 'mode' in text and 'compile s' in text and '3.2' in text
    assert any('torch.compile' in note for note in report.notes())
    assert 'mode' not in _printed(_report(STOCK, OURS))


def test_distance_to_the_roof_is_shown():
    row = replace(SPARSE, roof=_latency(0.8), roof_share=0.97)
    report = _report(STOCK, OURS, row)
    assert report.to_dict()['rows'][-1]['distance'] == pytest.approx(1.25)
    assert '1.25x' in _printed(report) and 'distance' not in _printed(_report(STOCK, OURS, SPARSE))
    assert any('97% of the MACs are in it' in note for note in report.notes())


def test_training_is_in_the_title_and_remarks_in_the_notes():
    report = replace(_report(STOCK, OURS), training=True, remarks=('There is no stock row of b.',))
    assert 'training step' in _printed(report) and report.to_dict()['training'] is True
    assert 'training step' not in _printed(_report(STOCK, OURS))
    assert report.notes()[-1] == 'There is no stock row of b.'
