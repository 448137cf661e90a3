"""How the search tool turns a command line into the config of a run, and what it says in the end."""

import math
from pathlib import Path

import pytest
from scripts import load_tool
from tiny_segmentation import CLASSES, CONFIG

from sparsevit_mm.cli import run_tool
from sparsevit_mm.search.results import Evaluation, Outcome


@pytest.fixture(scope='module')
def tool():
    return load_tool('search_sparsity')


@pytest.fixture
def stock(tmp_path):
    pytest.importorskip('mmseg')
    path = tmp_path / 'stock.py'
    path.write_text(CONFIG.format(root='nowhere', classes=CLASSES))
    return path


def loop_of(tool, config, *words):
    cfg = tool.search_config(tool.parse_args([str(config), 'weights.pth', *map(str, words)]))
    assert cfg.test_cfg.type == 'sparsevit_mm.SparsitySearchLoop' and cfg.test_evaluator and cfg.test_dataloader
    return {key: value for key, value in cfg.test_cfg.items() if key != 'type'}


def test_options_reach_the_loop(tool, stock):
    passed = dict(resume=False, config=str(stock), cfg_options=None, checkpoint='weights.pth')
    assert loop_of(tool, stock, '--budget-ms', 30) == dict(budget='30ms', budget_metric='latency', **passed)
    assert loop_of(tool, stock, '--pareto', '--resume') == passed | dict(budget=None, resume=True)


def test_a_search_config_keeps_what_the_command_line_leaves_out(tool, stock, tmp_path):
    config = tmp_path / 'search.py'
    options = "budget=0.7, budget_metric='macs', trials=2, rungs=(0.5,)"
    config.write_text(
        f'_base_ = {str(stock)!r}\n'
        "custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)\n"
        f"model = dict(backbone=dict(type='sparsevit_mm.SparseSwin'))\n"
        f"test_cfg = dict(type='sparsevit_mm.SparsitySearchLoop', {options})\n"
    )
    loop = loop_of(tool, config, '--trials', 5)
    assert (loop['budget'], loop['budget_metric'], loop['trials'], loop['rungs']) == (0.7, 'macs', 5, (0.5,))
    loop = loop_of(tool, config, '--budget-ms', 5, '--rungs', 0.25)
    assert (loop['budget'], loop['budget_metric'], loop['rungs']) == ('5ms', 'latency', [0.25])
    assert 'rungs' not in loop_of(tool, config, '--pareto'), 'which are for the budget of the config'


def test_a_mistake_is_said_before_anything_is_built(tool, stock, capsys):
    assert run_tool(tool.main, [str(stock), 'no such.pth', '--budget', '.5', '--foreign']) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: --foreign is about the device of a latency table') and 'no such.pth' not in error


class TestShow:
    def outcome(self, limit=0.05):
        evaluations = [Evaluation(0, (0.5, 0.5), 40.0, 0.05), Evaluation(1, (0.0, 0.8), 50.0, 0.04)]
        return Outcome(
            sites=('stage1.pair1', 'stage2.pair1'), evaluations=tuple(evaluations),
            dense=Evaluation(-1, (0.0, 0.0), 60.0, 0.1, False), dense_cost=0.1, least_cost=0.02, greatest_cost=0.1,
            limit=limit, unit='s', metric='val/mIoU', higher_is_better=True, duplicates=0, failed=(), interrupted=0,
            space_size=9, trials=2,
        )  # fmt: skip

    def shown(self, tool, outcome, folder, capsys, monkeypatch):
        monkeypatch.setenv('COLUMNS', '200')
        tool.show(outcome, folder)
        return capsys.readouterr().out

    def test_what_was_found_and_where_it_is(self, tool, tmp_path, capsys, monkeypatch):
        for name in ('report.html', 'pareto.csv', 'latency_table.json', 'best_config.py'):
            (tmp_path / name).touch()
        text = self.shown(tool, self.outcome(), tmp_path, capsys, monkeypatch)
        for part in ('found within the budget', '(0, 0.8)', '40 ms', '0.400', 'mIoU', 'dense', '100 ms'):
            assert part in text
        paths = [line for line in text.splitlines() if line.startswith(str(tmp_path))]
        assert [Path(path).name for path in paths] == [
            'report.html', 'pareto.csv', 'latency_table.json', 'best_config.py',
        ]  # fmt: skip

    def test_the_front_has_its_configs(self, tool, tmp_path, capsys, monkeypatch):
        (tmp_path / 'front').mkdir()
        for name in ('a.py', 'b.py'):
            (tmp_path / 'front' / name).touch()
        text = self.shown(tool, self.outcome(math.inf), tmp_path, capsys, monkeypatch)
        assert 'the front of accuracy and cost' in text and f'{tmp_path}/front/: 2 configs' in text
        text = self.shown(tool, self.outcome(), tmp_path, capsys, monkeypatch)
        assert 'front/' not in text, 'configs of an earlier search without a budget are none of this one'
