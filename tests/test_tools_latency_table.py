"""tools/latency_table.py from the command line to the file and back."""

import json
from functools import partial
from pathlib import Path

import pytest
from scripts import load_tool

from sparsevit_mm.cli import run_tool
from sparsevit_mm.cost import LatencyTable

STOCK = """
default_scope = 'mmdet'
model = dict(backbone=dict(
    type='SwinTransformer', embed_dims=16, depths=[2, 4], num_heads=[1, 2], strides=[4, 2], out_indices=[0, 1]))
"""
OURS = """
default_scope = 'mmseg'
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)
model = dict(backbone=dict(
    type='sparsevit_mm.PrunedViT', img_size=64, patch_size=8, embed_dims=32, num_layers=4, num_heads=4,
    site_blocks=(1, 2), sparsity=(0.3, 0.5)))
"""
QUICK = ['--shape', '48', '64', '--rounds', '1', '--threads', '1', '--choices', '0', '0.4', '0.8']
SITES = ('stage1.pair1', 'stage2.pair1', 'stage2.pair2')


@pytest.fixture(scope='module')
def main():
    return partial(run_tool, load_tool('latency_table').main)


@pytest.fixture
def stock(tmp_path: Path) -> str:
    pytest.importorskip('mmdet')
    path = tmp_path / 'stock.py'
    path.write_text(STOCK)
    return str(path)


@pytest.fixture
def ours(tmp_path: Path) -> str:
    path = tmp_path / 'ours.py'
    path.write_text(OURS)
    return str(path)


@pytest.fixture
def table(main, stock: str, tmp_path: Path, capsys) -> Path:
    """One of the stock config, with times that have room for budgets."""
    path = tmp_path / 'table.json'
    assert main([stock, '--out', str(path), *QUICK]) == 0
    capsys.readouterr()
    values = json.loads(path.read_text())
    values['sites'] = {site: {'median': [0.010, 0.006, 0.002]} for site in SITES}
    values['rest'] = 0.01
    path.write_text(json.dumps(values))
    return path


def test_measured_checked_written_and_shown(main, stock: str, tmp_path: Path, capsys) -> None:
    out = tmp_path / 'new' / 'table.json'
    assert main([stock, '--out', str(out), '--check', '2', '--batch', '2', '--dtype', 'bfloat16', *QUICK]) == 0
    shown = capsys.readouterr().out
    for part in (
        *SITES,
        'the rest',
        'sum',
        'batch 2',
        '48x64',
        'bfloat16',
        'Predictions of 2 random settings',
        str(out),
    ):
        assert part in shown
    found = LatencyTable.load(out)
    assert found.backbone.type == 'SparseSwin' and found.backbone.sites == SITES and found.choices == (0, 0.4, 0.8)
    assert found.environment.batch == 2 and found.environment.threads == 1 and len(found.check) == 2


def test_a_config_of_ours(main, ours: str, capsys) -> None:
    assert main([ours, *QUICK]) == 0
    assert 'PrunedViT' in (shown := capsys.readouterr().out) and 'block1' in shown and 'not checked' in shown


def test_budgets_are_fitted_by_a_table_that_is_there(main, stock: str, table: Path, capsys) -> None:
    assert main([stock, '--table', str(table), '--threads', '1', '--margin', '0', '--fit', '60%', '30ms']) == 0
    shown = capsys.readouterr().out
    assert '24.0' in shown and '30.0' in shown and '60%' in shown and 'MACs of dense' in shown
    assert main([stock, '--table', str(table), '--threads', '1', '--fit', '0.9', '1ms', '10s']) == 1
    shown = capsys.readouterr().out
    assert '0.9' in shown and 'error: budget 1 ms' in shown and 'nothing has to be pruned' in shown


def test_weights_say_where_dropping_matters(main, stock: str, table: Path, capsys) -> None:
    options = [stock, '--table', str(table), '--threads', '1', '--margin', '0', '--fit', '80%']
    found = []
    for weights in ([], ['1', '1', '1'], ['50', '1', '1']):
        assert main([*options, *(['--weights', *weights] if weights else [])]) == 0
        found.append(capsys.readouterr().out)
    assert found[0] == found[1] != found[2]


def test_a_table_of_something_else_is_refused(main, stock: str, ours: str, table: Path, capsys) -> None:
    same = ['--table', str(table), '--threads', '1', '--fit', '0.7']
    assert main([ours, *same]) == 2
    assert 'type of the backbone: SparseSwin in the table, PrunedViT here' in capsys.readouterr().err
    assert main([stock, *same, '--shape', '64', '64', '--dtype', 'bfloat16']) == 2
    error = capsys.readouterr().err
    assert 'shape: 48x64 in the table, 64x64 wanted' in error and 'dtype: float32 in the table' in error
    assert main([stock, *same, '--cfg-options', 'model.backbone.mlp_ratio=2']) == 2
    assert 'differs in widths' in capsys.readouterr().err
    assert main([stock, '--table', str(table), '--threads', '7', '--fit', '0.7']) == 2
    assert 'threads: 1 in the table, 7 wanted' in capsys.readouterr().err


def test_a_foreign_table_must_be_said_to_be_one(main, stock: str, ours: str, table: Path, capsys) -> None:
    values = json.loads(table.read_text())
    values['environment'] |= dict(device='NPU', device_name='a phone')
    table.write_text(json.dumps(values))
    arguments = ['--table', str(table), '--fit', '0.7']
    assert main([stock, *arguments]) == 2
    assert 'a phone' in (error := capsys.readouterr().err) and '--foreign' in error
    assert main([stock, *arguments, '--foreign']) == 0
    assert 'a phone' in capsys.readouterr().out
    assert main([ours, *arguments, '--foreign']) == 2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--foreign'], '--foreign is about the device of a --table'),
        (['--table', 't.json', '--rounds', '3', '--check', '1'], '--rounds, --check belong to a measurement'),
        (['--table', 't.json'], "latency table 't.json' cannot be read"),
        (['--fit', 'soon'], "budget 'soon' cannot be read"),
        (['--fit', '0'], 'budget is 0.0'),
        (['--margin', '1'], '--margin must be a fraction'),
        (['--weights', '2', '1'], '--weights are about a budget'),
        (['--fit', '0.8', '--weights', '2'], 'weights must be 3 numbers above 0, one for each of stage1.pair1'),
        (['--fit', '0.8', '--weights', '2', '0', '1'], 'weights must be 3 numbers above 0'),
        (['--shape', '0', '8'], 'shape must be two positive integers'),
        (['--choices', '0.2', '0.4'], 'choices of a latency table must ascend from 0'),
        (['--device', 'tpu'], "device must be 'cpu'"),
        (['--threads', '0'], 'threads must be a positive integer'),
    ],
)
def test_mistakes_are_said(main, stock: str, capsys, arguments: list[str], message: str) -> None:
    assert main([stock, *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith('error: ') and message in shown.err and shown.out == ''
