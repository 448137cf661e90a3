import importlib.util
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from sparsevit_mm.cli import run_tool
from sparsevit_mm.cost import Environment, LatencyRecord

TOOL = Path(__file__).parents[1] / 'tools' / 'benchmark.py'
CONFIG = """
default_scope = 'mmdet'
model = dict(backbone=dict(
    type='SwinTransformer', embed_dims=16, depths=[2, 2, 4, 2], num_heads=[1, 2, 4, 8]))
"""
QUICK = ['--shape', '48', '64', '--rounds', '2', '--min-round-time', '0']


@pytest.fixture(scope='module')
def main():
    spec = importlib.util.spec_from_file_location('benchmark_tool', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return partial(run_tool, module.main)


@pytest.fixture
def config(tmp_path):
    pytest.importorskip('mmdet')
    path = tmp_path / 'tiny.py'
    path.write_text(CONFIG)
    return str(path)


def test_table_and_json(config, tmp_path):
    out = tmp_path / 'new' / 'figures.json'
    arguments = [config, '--sparsity', '0', '.6,0,.2,.4,.5', '--batch', '2', '--json', str(out), *QUICK]
    done = subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, cwd=TOOL.parents[1], check=False
    )
    assert done.returncode == 0, done.stderr
    for part in ('stock SwinTransformer', '0.6,0,0.2,0.4,0.5', 'batch 2', '48x64', 'speed-up', 'realised'):
        assert part in done.stdout
    values = json.loads(out.read_text())
    assert Environment.from_dict(values['environment']).batch == 2
    assert [row['sparsity'] for row in values['rows']] == [None, [0] * 5, [0.6, 0, 0.2, 0.4, 0.5]]
    assert LatencyRecord.from_dict(values['rows'][0]['latency']).runs == 2
    assert values['rows'][0]['macs'] == values['rows'][1]['macs'] > values['rows'][2]['macs']


def test_without_stock_ours_comes_first(main, config, capsys):
    assert main([config, '--no-stock', '--dtype', 'bfloat16', '--threads', '1', *QUICK]) == 0
    shown = capsys.readouterr().out
    assert 'stock' not in shown and 'bfloat16' in shown and '1 thread,' in shown


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--sparsity', 'much'], "sparsity 'much' is neither a number"),
        (['--sparsity', '.1,.2'], '5 sites'),
        (['--sparsity', '1'], r'must lie in [0, 1)'),
        (['--shape', '0', '8'], 'shape must be two positive integers'),
        (['--batch', '0'], 'batch must be a positive integer'),
        (['--rounds', '0'], 'rounds must be a positive integer'),
        (['--device', 'tpu'], "device must be 'cpu'"),
        (['--whole-model'], 'cannot be built'),
        (['--json', '/proc/nowhere/figures.json'], '/proc/nowhere'),
        (['--assert-budget', '0'], 'must be a positive amount. Write --assert-budget 30 for 30 ms'),
        (['--assert-budget', '-3'], 'must be a positive amount'),
        (['--assert-budget', '0%'], 'must lie in (0, 1]'),
        (['--assert-budget', '120%'], 'must lie in (0, 1]'),
        (['--assert-budget', 'soon'], "budget 'soon' cannot be read"),
        (['--assert-budget', ''], "budget '' cannot be read"),
    ],
)
def test_mistakes_are_said(main, config, capsys, arguments, message):
    assert main([config, *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith('error: ') and message in shown.err and shown.out == ''


def test_missing_config_is_said(main, capsys):
    assert main(['no_such_config.py']) == 2
    assert 'no_such_config.py' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('budget', 'status', 'said'),
    [('1e6', 0, 'Within budget: '), ('1000s', 0, 'Within budget: '), ('0.00001', 1, 'OVER BUDGET: ')],
)
def test_a_budget_decides_the_exit_status(main, config, tmp_path, capsys, budget, status, said):
    out = tmp_path / 'figures.json'
    arguments = [config, '--no-stock', '--sparsity', '0', '.5', '--assert-budget', budget, '--json', str(out), *QUICK]
    assert main(arguments) == status
    shown = capsys.readouterr().out
    assert shown.count(said) == 1 and f'{said}SparseSwin at sparsity 0.5 (tiny) takes' in shown
    (verdict,) = json.loads(out.read_text())['budget']
    assert verdict['kept'] is (status == 0) and verdict['sparsity'] == [0.5] * 5 and verdict['share_of_dense'] is None


def test_a_fraction_is_of_ours_at_sparsity_0_which_is_timed_too(main, config, tmp_path, capsys):
    out = tmp_path / 'figures.json'
    arguments = [config, '--sparsity', '.5', '--assert-budget', '0.001%', '--json', str(out), *QUICK]
    assert main(arguments) == 1
    shown = capsys.readouterr().out
    assert 'SparseSwin at sparsity 0.5 (tiny) takes' in shown and '(1e-05 of dense)' in shown
    values = json.loads(out.read_text())
    assert [row['sparsity'] for row in values['rows']] == [None, [0] * 5, [0.5] * 5]
    (verdict,) = values['budget']
    assert verdict['limit'] == pytest.approx(1e-5 * values['rows'][1]['latency']['median'])


def test_the_own_sparsity_of_a_config_is_held_to_the_budget_also_if_dense(main, config, capsys):
    assert main([config, '--no-stock', '--assert-budget', '1000s', *QUICK]) == 0
    assert 'Within budget: SparseSwin at sparsity 0 (tiny)' in capsys.readouterr().out


def test_without_a_budget_there_is_none(main, config, tmp_path, capsys):
    out = tmp_path / 'figures.json'
    assert main([config, '--no-stock', '--json', str(out), *QUICK]) == 0
    assert 'Within budget' not in capsys.readouterr().out and 'budget' not in json.loads(out.read_text())
