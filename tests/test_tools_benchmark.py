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
    ],
)
def test_mistakes_are_said(main, config, capsys, arguments, message):
    assert main([config, *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith('error: ') and message in shown.err and shown.out == ''


def test_missing_config_is_said(main, capsys):
    assert main(['no_such_config.py']) == 2
    assert 'no_such_config.py' in capsys.readouterr().err
