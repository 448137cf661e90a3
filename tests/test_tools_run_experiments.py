"""The tool with all kinds of runs on a few pictures of CamVid, killed in the midst of them."""

import json
import sqlite3
import sys
import time

import pytest
from forked import Program
from scripts import ROOT, load_tool

from sparsevit_mm.cli import run_tool

pytest.importorskip('mmseg')
TOOL = load_tool('run_experiments')


def call(capsys, *words):
    status = run_tool(TOOL.main, list(map(str, words)))
    said = capsys.readouterr()
    return status, said.out, said.err


def test_without_a_suite_it_names_all(capsys):
    status, out, _ = call(capsys)
    assert status == 0
    for name in ('camvid-swin', 'camvid-vit', 'camvid-convnext', 'demo', 'coco-mini', 'kitti-mini', 'smoke'):
        assert name in out


def test_list_shows_runs_and_what_they_need_and_runs_nothing(capsys, tmp_path):
    status, out, _ = call(capsys, 'smoke', '--list', '--work-dir', tmp_path)
    assert status == 0 and 'found-90/seed0' in out and 'waits for' in out and 'all rows' in out
    assert not (tmp_path / 'smoke' / 'results.jsonl').exists() and not (tmp_path / 'smoke' / 'runs').exists()


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['camvid'], "there is no suite 'camvid': choose one of"),
        (['smoke', '--list', '--only', 'fuond*'], '--only fuond* fits no run of suite smoke: --list shows them'),
        (['smoke', '--again', 'x'], '--again x fits no run of suite smoke'),
        (['smoke', '--list', '--device', 'tpu'], "--device must be cpu or cuda, got 'tpu'"),
        (['smoke', '--report', 'r.md'], 'there are no results in'),
    ],
)
def test_mistakes_are_a_line(capsys, tmp_path, words, message):
    status, _, err = call(capsys, *words, '--work-dir', tmp_path)
    assert status == 2 and err.startswith('error: ') and message in err and err.count('\n') == 1


def test_data_that_is_not_there_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(TOOL, 'PROJECT', _project_without_data(tmp_path))
    status, _, err = call(capsys, 'smoke', '--device', 'cpu', '--work-dir', tmp_path / 'work')
    assert status == 2 and 'suite smoke needs data/camvid/images/train' in err


def _project_without_data(folder):
    project = folder / 'project'
    project.mkdir()
    for name in ('configs', 'tools'):
        (project / name).symlink_to(ROOT / name)
    return project


def test_results_file_of_something_else_is_left_alone(capsys, tmp_path):
    file = tmp_path / 'smoke' / 'results.jsonl'
    file.parent.mkdir()
    file.write_text('not,mine\n')
    status, _, err = call(capsys, 'smoke', '--list', '--work-dir', tmp_path)
    assert status == 2 and 'no record of an experiment in it: move it away' in err and file.read_text() == 'not,mine\n'


class Tool:
    """The smoke suite in one folder."""

    def __init__(self, folder):
        self.folder, self.root = folder, folder / 'smoke'

    def start(self):
        words = ['smoke', '--device', 'cpu', '--work-dir', self.folder]
        return Program(ROOT / 'tools' / 'run_experiments.py', *words, output=self.folder / 'output.txt')

    def kill_when(self, condition):
        program = self.start()
        until = time.monotonic() + 240
        while not condition():
            assert program.poll() is None, program.said()
            assert time.monotonic() < until
            time.sleep(0.02)
        program.kill()
        program.wait()

    def finish(self):
        program = self.start()
        assert program.wait(500) == 0, program.said()
        return program.said()

    def records(self):
        found = map(json.loads, (self.root / 'results.jsonl').read_text().splitlines())
        return {record['run']: record for record in found}

    def first(self, pattern):
        return next(self.root.glob(f'runs/{pattern}'), None)

    def has_trained_an_epoch(self):
        named = self.first('dense-*/train/last_checkpoint')
        return named is not None and 'epoch_' in named.read_text()

    def has_evaluated(self):
        study = self.first('search-*/search/study.sqlite3')
        try:
            with sqlite3.connect(f'file:{study}?mode=ro', uri=True) as database:
                return database.execute("select count(*) from trials where state = 'COMPLETE'").fetchone()[0] >= 2
        except sqlite3.Error:
            return False


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='processes end with their parent on Linux')
def test_smoke_suite_killed_in_training_and_search_goes_on_and_is_reported(tmp_path, capsys):
    tool = Tool(tmp_path)
    tool.kill_when(tool.has_trained_an_epoch)
    tool.kill_when(tool.has_evaluated)
    said = tool.finish()
    assert 'SparseViT, 90%' in said, 'the table'
    records = tool.records()
    assert all(record['state'] == 'done' for record in records.values())
    assert records['dense']['starts'] == 2 and records['search-90']['starts'] == 2
    log = tool.first('dense-*/log.txt').read_text()
    assert 'resumed epoch: 1' in log or 'resumed epoch: 2' in log
    assert len(list(tool.root.glob('runs/dense-*/train/epoch_*.pth'))) == 1, 'only the last one is kept'
    _check_values(records)
    _check_report(tmp_path, capsys)


def _check_values(records):
    found, adapted = records['found-90']['values'], records['untuned-90']['values']
    assert found['sparsity'] == records['search-90']['values']['sparsity'] == adapted['sparsity']
    assert any(found['sparsity']) and found['macs'] == adapted['macs'] < records['dense']['values']['macs']
    assert set(records['dense']['values']['metrics']) == {'val', 'test'}
    assert all(0 <= record['values']['metrics']['test']['mIoU'] <= 100 for record in (records['found-90'],))
    size = records['calibrate']['values']['size']['0.9']
    assert records['size']['values']['shape'] == size['shape']['tuple']
    times = records['measure']['values']['rows']
    assert set(times) == {'dense/seed0', 'found-90/seed0', 'untuned-90/seed0', 'size/seed0'}
    assert times['found-90/seed0'] == times['untuned-90/seed0'], 'one model at one size is timed once'
    assert all(row['whole']['median'] > row['backbone']['median'] > 0 for row in times.values())


def _check_report(work_dir, capsys):
    out = work_dir / 'report' / 'results.md'
    status, _, err = call(capsys, 'smoke', '--work-dir', work_dir, '--report', out)
    assert (status, err) == (0, '')
    text = out.read_text()
    assert '## A smoke run' in text and '| SparseViT, 90% |' in text and (out.parent / 'images').exists()
    status, listed, _ = call(capsys, 'smoke', '--list', '--work-dir', work_dir)
    assert status == 0 and 'ready' not in listed and 'failed' not in listed
