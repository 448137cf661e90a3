"""The search tool killed at each of its steps, one after the other, and started again by the same command."""

import signal
from collections import Counter
from pathlib import Path

import optuna
import pytest
from forked import Program
from tiny_segmentation import make_project

from sparsevit_mm.apis import load_config
from sparsevit_mm.search.storage import sqlite_url

LAUNCHER = Path(__file__).with_name('killed_search.py')
# A data set with an annotation file, of which a split has a part; and a diary of evaluations.
MODULE = """
import json
import os
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from sparsevit_mm.models import find_sparse_backbone


@DATASETS.register_module()
class Listed(BaseSegDataset):
    def load_data_list(self):
        with open(self.ann_file) as file:
            names = [entry['name'] for entry in json.load(file)['data_list']]
        kept = dict(label_map=None, reduce_zero_label=False, seg_fields=[])
        folders = [('img_path', self.data_prefix['img_path']), ('seg_map_path', self.data_prefix['seg_map_path'])]
        return [{**{key: os.path.join(folder, name) for key, folder in folders}, **kept} for name in names]


@HOOKS.register_module(force=True)  # other tests have one of this name
class Diary(Hook):
    def _write(self, runner, word):
        with open(os.path.join(runner.work_dir, 'diary.txt'), 'a') as file:
            file.write(f'{word} {find_sparse_backbone(runner.model).sparsity}\\n')

    def before_test_epoch(self, runner):
        self._write(runner, 'begin')

    def after_test_epoch(self, runner, metrics=None):
        self._write(runner, 'end')
"""
CONFIG = """
_base_ = {base!r}
custom_imports = dict(imports=['listed'])
custom_hooks = [dict(type='Diary')]
train_dataloader = dict(dataset=dict(type='Listed', ann_file='train.json'))
"""
LIST = '{{"metainfo": {{}}, "data_list": [{}]}}'
TRIALS = 4


class Tool:
    """The tool in one work dir, with the same options at every start."""

    def __init__(self, folder):
        stock, self.checkpoint = make_project(folder)
        self.folder, self.config, self.work_dir = folder, folder / 'listed_data.py', folder / 'work'
        entries = ', '.join(f'{{"name": "{i}.png"}}' for i in range(8))
        (folder / 'data' / 'train.json').write_text(LIST.format(entries))
        (folder / 'listed.py').write_text(MODULE)
        self.config.write_text(CONFIG.format(base=str(stock)))

    def run(self, moment):
        """Runs it until it is killed at a moment or ends; the status and what it said."""
        options = ['--budget', '10s', '--shape', '32', '32', '--choices', '0', '0.5', '0.8', '--trials', str(TRIALS)]
        options += ['--latency-rounds', '1']
        options += ['--work-dir', self.work_dir, '--resume']
        output, env = self.folder / f'{moment}.txt', {'PYTHONPATH': str(self.folder)}
        program = Program(LAUNCHER, moment, self.config, self.checkpoint, *options, output=output, env=env)
        return program.wait(300), program.said()

    def killed(self, moment):
        status, said = self.run(moment)
        assert status == -signal.SIGKILL, said[-3000:]
        return said

    def diary(self):
        path = self.work_dir / 'diary.txt'
        return path.read_text().splitlines() if path.exists() else []

    def study(self):
        return optuna.load_study(study_name='sparsity', storage=sqlite_url(self.work_dir / 'study.sqlite3'))


@pytest.mark.slow
def test_killed_at_each_step_and_resumed(tmp_path, monkeypatch):
    tool = Tool(tmp_path)
    split, table = tool.work_dir / 'search_split.json', tool.work_dir / 'latency_table.json'

    tool.killed('split')
    assert not split.exists()
    tool.killed('table')
    assert split.exists() and not table.exists()
    assert 'measuring the latency table' in tool.killed('ready')
    measured = table.read_bytes()

    said = tool.killed('trial')
    assert 'taking up' in said and 'measuring the latency table' not in said
    words = [line.split()[0] for line in tool.diary()]
    assert words == ['begin', 'end', 'begin'], 'one is told, and one was lost on the way'
    lost = tool.diary()[-1]

    said = tool.killed('told')
    assert [line.split()[0] for line in tool.diary()[3:]] == ['begin', 'end'] * 2
    assert tool.diary()[3] == lost, 'it is the first one to be taken up'

    said += tool.killed('report')
    assert not (tool.work_dir / 'report.html').exists()
    status, end = tool.run('never')
    assert status == 0, end
    assert 'latency table' not in said + end and table.read_bytes() == measured

    begun = Counter(line for line in tool.diary() if line.startswith('begin'))
    ended = Counter(line for line in tool.diary() if line.startswith('end'))
    assert begun == Counter({lost: 2}) | Counter(line.replace('end', 'begin') for line in ended)
    assert set(ended.values()) == {1} and len(ended) == TRIALS
    states = Counter(trial.state.name for trial in tool.study().trials)
    assert states['COMPLETE'] == TRIALS and states['RUNNING'] == states['WAITING'] == 0

    assert (tool.work_dir / 'report.html').read_text().rstrip().endswith('</html>')
    assert f'Candidates: {TRIALS} of {TRIALS}' in (tool.work_dir / 'report.md').read_text().replace('*', '')
    best = max((trial for trial in tool.study().trials if trial.state.name == 'COMPLETE'), key=lambda t: t.value)
    monkeypatch.syspath_prepend(tmp_path)
    found = load_config(tool.work_dir / 'best_config.py').model.backbone
    assert best.value == max(
        trial.value for trial in tool.study().trials if tuple(trial.params.values()) == found.sparsity
    )
