"""The search tool from the command line: what it leaves, what it refuses, and that it survives being killed."""

import ast
import csv
import signal
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from forked import Program
from quick_sqlite import quick_sqlite
from scripts import load_tool
from tiny_segmentation import make_project

from sparsevit_mm.apis import load_config
from sparsevit_mm.cli import run_tool
from sparsevit_mm.search.storage import sqlite_url

__all__ = ['quick_sqlite']
ROOT = Path(__file__).parents[1]
TOOL = ROOT / 'tools' / 'search_sparsity.py'
# Writes a line when the evaluation of a candidate begins and when it ends, and takes its time in between.
DIARY = """
import os
import time
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from sparsevit_mm.models import find_sparse_backbone


@HOOKS.register_module(force=True)
class Diary(Hook):
    def _write(self, runner, word):
        with open(os.path.join(runner.work_dir, 'diary.txt'), 'a') as file:
            file.write(f'{word} {find_sparse_backbone(runner.model).sparsity}\\n')

    def before_test_epoch(self, runner):
        self._write(runner, 'begin')

    def before_test_iter(self, runner, batch_idx, data_batch=None):
        time.sleep(0.3)

    def after_test_epoch(self, runner, metrics=None):
        self._write(runner, 'end')
"""


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp('tiny'))


@pytest.fixture(scope='module')
def tool():
    return load_tool('search_sparsity')


def words(project, work_dir, *more):
    config, checkpoint = project
    given = ['--budget-metric', 'macs', '--choices', '0', '0.5', '0.8', '--work-dir', str(work_dir)]
    return [str(config), str(checkpoint), *given, *more]


def rows_of(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_stock_config_to_found_config(project, tool, tmp_path, capsys):
    assert run_tool(tool.main, words(project, tmp_path, '--budget', '0.7', '--trials', '3')) == 0
    shown = capsys.readouterr().out
    assert 'found' in shown and 'best_config.py' in shown
    rows = rows_of(tmp_path / 'candidates.csv')
    assert rows[0]['trial'] == 'dense' and len(rows) == 4

    found = load_config(tmp_path / 'best_config.py')
    assert found.model.backbone.type == 'sparsevit_mm.SparseSwin'
    best = max(rows[1:], key=lambda row: (float(row['mIoU']), -float(row['cost [MACs]'])))
    assert found.model.backbone.sparsity == (float(best['stage1.pair1']), float(best['stage2.pair1']))
    assert found.model.backbone.init_cfg is None and found.test_cfg.type == 'TestLoop'
    stock = load_config(project[0])
    assert found.train_dataloader == stock.train_dataloader and found.model.decode_head == stock.model.decode_head

    text = (tmp_path / 'best_config.py').read_text()
    assert f"_base_ = ['{project[0]}']" in text and 'decode_head' not in text


def test_found_config_trains_and_tests(project, tool, tmp_path):
    assert run_tool(tool.main, words(project, tmp_path, '--budget', '0.7', '--trials', '2')) == 0
    best = str(tmp_path / 'best_config.py')
    assert run_tool(load_tool('test').main, [best, str(project[1]), '--work-dir', str(tmp_path / 'test')]) == 0
    assert run_tool(load_tool('train').main, [best, '--work-dir', str(tmp_path / 'train')]) == 0
    assert list((tmp_path / 'train').glob('*.pth'))


def test_overrides_of_the_command_line_stay_in_the_found_config(project, tool, tmp_path):
    options = ['--cfg-options', 'model.decode_head.dropout_ratio=0.3', 'val_dataloader.batch_size=1']
    assert run_tool(tool.main, words(project, tmp_path, '--budget', '0.7', '--trials', '2', *options)) == 0
    found = load_config(tmp_path / 'best_config.py')
    assert found.model.decode_head.dropout_ratio == 0.3 and found.val_dataloader.batch_size == 1


def test_search_config_brings_its_own_options(project, tool, tmp_path):
    config = tmp_path / 'search.py'
    hooks = "[dict(type='sparsevit_mm.SparsityAdaptationHook'), dict(type='EMAHook')]"
    config.write_text(
        f'_base_ = {str(project[0])!r}\n'
        "custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)\n"
        "model = dict(backbone=dict(type='sparsevit_mm.SparseSwin'))\n"
        "test_cfg = dict(type='sparsevit_mm.SparsitySearchLoop', budget=0.7, budget_metric='macs', trials=2)\n"
        f'custom_hooks = {hooks}\n'
    )
    work_dir = tmp_path / 'work'
    assert run_tool(tool.main, [str(config), str(project[1]), '--work-dir', str(work_dir)]) == 0
    found = load_config(work_dir / 'best_config.py')
    assert found.test_cfg == dict(type='TestLoop')
    assert [hook.type for hook in found.custom_hooks] == ['EMAHook']


def test_search_config_is_run_by_the_test_tool_as_well(project, tmp_path):
    config = tmp_path / 'search.py'
    loop = "dict(type='sparsevit_mm.SparsitySearchLoop', budget=0.7, budget_metric='macs', trials=2)"
    config.write_text(
        f'_base_ = {str(project[0])!r}\n'
        "custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)\n"
        f"model = dict(backbone=dict(type='sparsevit_mm.SparseSwin'))\ntest_cfg = {loop}\n"
    )
    work_dir = tmp_path / 'work'
    assert run_tool(load_tool('test').main, [str(config), str(project[1]), '--work-dir', str(work_dir)]) == 0
    found = load_config(work_dir / 'best_config.py')
    assert found.test_cfg == dict(type='TestLoop') and 'work_dir' not in found and 'launcher' not in found


def run_in_process(project, work_dir, *more):
    output, env = work_dir / 'output.txt', {'PYTHONPATH': str(work_dir)}
    return Program(TOOL, *words(project, work_dir, *more), output=output, env=env)


def wait_for(condition, process, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, 'the search ended before it could be killed'
        assert time.monotonic() < deadline, 'the search does not get on'
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_search_resumes_and_evaluates_nothing_twice(project, tool, tmp_path, monkeypatch, capsys):
    """Killed with SIGKILL in the middle of its third evaluation, and resumed until nothing is left to try."""
    (tmp_path / 'diary.py').write_text(DIARY)
    config = tmp_path / 'with_diary.py'
    config.write_text(
        f"_base_ = {str(project[0])!r}\ncustom_imports = dict(imports=['diary'])\ncustom_hooks = [dict(type='Diary')]\n"
    )
    project = (config, project[1])
    diary = tmp_path / 'diary.txt'
    options = ('--budget', '0.75', '--trials', '100')

    process = run_in_process(project, tmp_path, *options)
    wait_for(lambda: diary.exists() and len(diary.read_text().splitlines()) >= 7, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = diary.read_text().splitlines()
    assert before[-1].startswith('begin'), 'killed within an evaluation'
    lost = ast.literal_eval(before[-1].removeprefix('begin '))

    monkeypatch.syspath_prepend(tmp_path)
    assert run_tool(tool.main, words(project, tmp_path, *options)) == 2
    assert 'Give --resume to go on' in capsys.readouterr().err
    assert diary.read_text().splitlines() == before

    assert run_in_process(project, tmp_path, *options, '--resume').wait() == 0
    lines = diary.read_text().splitlines()
    ended = Counter(line.removeprefix('end ') for line in lines if line.startswith('end'))
    assert set(ended.values()) == {1}, 'no setting is evaluated twice'
    begun = Counter(line.removeprefix('begin ') for line in lines if line.startswith('begin'))
    assert {line for line, times in begun.items() if times > 1} == {str(lost)}

    study = optuna.load_study(study_name='sparsity', storage=sqlite_url(tmp_path / 'study.sqlite3'))
    complete = [trial for trial in study.trials if trial.state.name == 'COMPLETE']
    assert len(complete) == len(ended), 'every evaluation is a trial'
    rows = rows_of(tmp_path / 'candidates.csv')
    within = [row for row in rows if row['trial'] != 'dense']
    best = max(within, key=lambda row: (float(row['mIoU']), -float(row['cost [MACs]'])))
    found = load_config(tmp_path / 'best_config.py').model.backbone.sparsity
    assert found == (float(best['stage1.pair1']), float(best['stage2.pair1']))
    assert str(lost) in ended and len(within) == len(complete) - 1, 'the dense reference is no candidate'


class TestBadInput:
    def refuse(self, tool, argv, capsys):
        assert run_tool(tool.main, [str(word) for word in argv]) == 2
        message = capsys.readouterr().err.splitlines()[-1]
        assert message.startswith('error: ')
        return message

    def test_no_budget(self, project, tool, tmp_path, capsys):
        assert '--budget is missing' in self.refuse(tool, words(project, tmp_path), capsys)

    def test_budget_out_of_reach(self, project, tool, tmp_path, capsys):
        message = self.refuse(tool, words(project, tmp_path, '--budget', '0.05'), capsys)
        assert 'cannot be reached' in message and 'the sparsest setting costs' in message
        assert not (tmp_path / 'report.md').exists()
        assert run_tool(tool.main, words(project, tmp_path, '--budget', '0.7', '--trials', '1')) == 0

    def test_config_without_swin(self, project, tool, tmp_path, capsys):
        config = tmp_path / 'resnet.py'
        config.write_text(
            "default_scope = 'mmseg'\nmodel = dict(type='EncoderDecoder', backbone=dict(type='ResNet'))\n"
        )
        message = self.refuse(tool, words((config, project[1]), tmp_path, '--budget', '0.7'), capsys)
        assert "model.backbone.type='ResNet'" in message

    def test_wrong_checkpoint(self, project, tool, tmp_path, capsys):
        other = tmp_path / 'other.pth'
        import torch

        torch.save({'state_dict': {'backbone.conv.weight': torch.zeros(2)}}, other)
        message = self.refuse(tool, words((project[0], other), tmp_path, '--budget', '0.7'), capsys)
        assert 'belongs to another architecture' in message

    def test_checkpoint_of_the_backbone_alone(self, project, tool, tmp_path, capsys):
        import torch

        state = torch.load(project[1], weights_only=True)['state_dict']
        backbone = tmp_path / 'backbone.pth'
        torch.save({'state_dict': {k: v for k, v in state.items() if k.startswith('backbone.')}}, backbone)
        message = self.refuse(tool, words((project[0], backbone), tmp_path, '--budget', '0.7'), capsys)
        assert 'decode_head' in message

    def test_missing_checkpoint(self, project, tool, tmp_path, capsys):
        message = self.refuse(tool, words((project[0], tmp_path / 'none.pth'), tmp_path, '--budget', '0.7'), capsys)
        assert 'none.pth' in message

    def test_checkpoint_that_is_none(self, project, tool, tmp_path, capsys):
        garbage = tmp_path / 'garbage.pth'
        garbage.write_bytes(bytes(range(256)) * 40)
        message = self.refuse(tool, words((project[0], garbage), tmp_path, '--budget', '0.7'), capsys)
        assert 'garbage.pth' in message

    @pytest.mark.parametrize('rungs', [(), ('--rungs', '0.5')])
    def test_metric_that_the_evaluator_does_not_give(self, project, tool, tmp_path, capsys, rungs):
        message = self.refuse(tool, words(project, tmp_path, '--budget', '0.7', '--metric', 'mAP', *rungs), capsys)
        assert "metric 'mAP' is not among what the evaluator gives: aAcc, mIoU, mAcc" in message

    def test_missing_data(self, project, tool, tmp_path, capsys):
        options = ['--cfg-options', 'train_dataloader.dataset.data_root=/nowhere']
        message = self.refuse(tool, words(project, tmp_path, '--budget', '0.7', *options), capsys)
        assert 'the training set is missing: there is no /nowhere/train/' in message

    def test_empty_data(self, project, tool, tmp_path, capsys):
        for part in ('images', 'labels'):
            (tmp_path / 'empty' / 'train' / part).mkdir(parents=True)
        options = ['--cfg-options', f'train_dataloader.dataset.data_root={tmp_path / "empty"}']
        message = self.refuse(tool, words(project, tmp_path, '--budget', '0.7', *options), capsys)
        assert 'the training set is empty' in message

    def test_empty_search_set(self, project, tool, tmp_path, capsys):
        for part in ('images', 'labels'):
            (tmp_path / 'empty' / 'train' / part).mkdir(parents=True)
        config = tmp_path / 'own.py'
        config.write_text(
            f'_base_ = {str(project[0])!r}\nimport copy\n'
            'search_dataloader = copy.deepcopy(_base_.train_dataloader)\n'
            f"search_dataloader['dataset']['data_root'] = {str(tmp_path / 'empty')!r}\n"
            'search_evaluator = _base_.val_evaluator\n'
        )
        message = self.refuse(tool, words((config, project[1]), tmp_path, '--budget', '0.7'), capsys)
        assert 'the data set is empty' in message and str(tmp_path / 'empty') in message

    def test_searching_the_reported_set(self, project, tool, tmp_path, capsys):
        options = ['--cfg-options', 'train_dataloader.dataset.data_prefix.img_path=val/images']
        message = self.refuse(tool, words(project, tmp_path, '--budget', '0.7', *options), capsys)
        assert 'must not choose by the set that is reported' in message

    def test_work_dir_that_cannot_be_written(self, project, tool, tmp_path, capsys):
        (tmp_path / 'file').touch()
        message = self.refuse(tool, words(project, tmp_path / 'file' / 'work', '--budget', '0.7'), capsys)
        assert str(tmp_path / 'file') in message

    def test_study_of_another_config(self, project, tool, tmp_path, capsys):
        run = words(project, tmp_path, '--budget', '0.7', '--trials', '2')
        assert run_tool(tool.main, run) == 0
        before = rows_of(tmp_path / 'candidates.csv')
        other = ['--resume', '--cfg-options', 'model.decode_head.channels=16']
        checkpoint = tmp_path / 'other.pth'
        import torch

        from sparsevit_mm.apis import build_model

        model = build_model(load_config(project[0], {'model.decode_head.channels': 16}))
        torch.save({'state_dict': model.state_dict()}, checkpoint)
        message = self.refuse(tool, [run[0], checkpoint, *run[2:], *other], capsys)
        assert 'model.decode_head.channels is 8 in the study and 16 now' in message
        assert rows_of(tmp_path / 'candidates.csv') == before

    def test_storage_that_is_no_database(self, project, tool, tmp_path, capsys):
        storage = ['--storage', 'study.sqlite3']
        message = self.refuse(tool, words(project, tmp_path, '--budget', '0.7', *storage), capsys)
        assert 'is not a database URL' in message
