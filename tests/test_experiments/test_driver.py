"""The driver with runs that take moments; real ones are in test_tools_run_experiments.py."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from shutil import rmtree

import pytest
from made_up import CONFIG, lines, make_project, make_suite, measure, open_driver, row, states

from sparsevit_mm.config import load_config
from sparsevit_mm.experiments import From, Run, Workplace
from sparsevit_mm.experiments.process import InUse

LINUX = pytest.mark.skipif(sys.platform != 'linux', reason='processes end with their parent on Linux')


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path)


def calls(project, run):
    """How often the process of each task of a run was started, by its folder."""
    return {path.parent.name: len(path.read_text()) for path in project.glob(f'work/runs/{run}-*/calls')}


def test_all_runs_are_made_in_order_and_only_once(project):
    suite = make_suite(row('dense', 50), row('tuned', 40, needs='dense'), measure())
    assert open_driver(suite, project).run()
    assert [line['run'] for line in lines(project)] == ['dense', 'dense', 'tuned', 'tuned', 'measure']
    tuned = lines(project)[2]
    assert tuned['needs'] == {'dense/seed0': lines(project)[0]['id']} and tuned['starts'] == 1
    assert tuned['values']['metrics']['test']['mIoU'] == 40
    again = open_driver(suite, project)
    assert set(states(again).values()) == {'done'} and again.run()
    assert len(lines(project)) == 5 and set(calls(project, 'tuned').values()) == {1}


def test_config_of_a_run_has_what_others_found_and_the_seed(project):
    open_driver(make_suite(row('dense', 50), row('tuned', 40, needs='dense')), project).run()
    paths = sorted(project.glob('work/runs/tuned-seed1-*/config.py'))
    assert len(paths) == 1
    cfg = load_config(paths[0])
    assert cfg.model.backbone.sparsity == 0.25 and cfg.randomness.seed == 1 and cfg.model.neck.sizes == [1, 2, 3]


def test_failed_run_stops_only_those_that_need_it_and_is_tried_again(project, tmp_path):
    mended = tmp_path / 'mended'
    runs = row('dense', 50, fail=str(mended)), row('tuned', 40, needs='dense'), row('other', 30)
    suite, told = make_suite(*runs, seeds=(0,)), []
    driver = open_driver(suite, project, told=lambda task, word, sentence: told.append((task.key, word, sentence)))
    assert not driver.run()
    assert states(driver) == {'dense/seed0': 'failed', 'tuned/seed0': 'waiting', 'other/seed0': 'done'}
    assert ('dense/seed0', 'failed', 'it is broken') in told
    assert driver.board.places['tuned/seed0'].remark == 'waits for dense/seed0'
    mended.touch()
    assert open_driver(suite, project).run()
    assert lines(project)[-2]['starts'] == 2, 'in the same folder, so that it goes on'


def test_changed_option_makes_a_run_and_what_was_built_on_it_again(project):
    def suite(value, label='tuned'):
        runs = row('dense', value), row('other', 1), row('tuned', 40, needs='dense', label=label)
        return make_suite(*runs, seeds=(0,))

    open_driver(suite(50), project).run()
    driver = open_driver(suite(51), project)
    assert states(driver) == {'dense/seed0': 'ready', 'other/seed0': 'done', 'tuned/seed0': 'waiting'}
    assert 'have changed since it was made: its result stays' in driver.board.places['dense/seed0'].remark
    driver.run()
    assert [line['run'] for line in lines(project)] == ['dense', 'other', 'tuned', 'dense', 'tuned']
    assert len(calls(project, 'dense')) == 2, 'a folder each'
    assert set(states(open_driver(suite(50), project)).values()) == {'done'}, 'the former ones are there still'
    assert set(states(open_driver(suite(50, 'other label'), project)).values()) == {'done'}


def test_changed_config_makes_runs_again(project):
    suite = make_suite(row('dense', 50), seeds=(0,))
    open_driver(suite, project).run()
    config = project / 'configs' / CONFIG
    config.write_text(f'# a remark\n{config.read_text()}')
    assert states(open_driver(suite, project)) == {'dense/seed0': 'done'}, 'a remark changes nothing'
    config.write_text(config.read_text() + 'train_cfg = dict(max_epochs=3)\n')
    assert states(open_driver(suite, project)) == {'dense/seed0': 'ready'}


def test_run_made_again_makes_what_was_built_on_it_out_of_date(project):
    suite = make_suite(row('dense', 50), row('tuned', 40, needs='dense'), measure(), seeds=(0,))
    open_driver(suite, project).run()
    driver = open_driver(suite, project, again=['measure'])
    assert driver.run() and [line['run'] for line in lines(project)][3:] == ['measure']
    driver = open_driver(suite, project, again=['dense/seed0'])
    assert driver.run(['dense/seed0'])
    assert len(calls(project, 'dense')) == 2, 'not taken from the former folder'
    driver = open_driver(suite, project)
    assert states(driver) == {'dense/seed0': 'done', 'tuned/seed0': 'ready', 'measure': 'ready'}
    assert 'was made of another result of dense/seed0' in driver.board.places['tuned/seed0'].remark
    assert '1 of 1 rows not measured yet' in driver.board.places['measure'].remark


def test_selection_brings_what_it_needs(project):
    suite = make_suite(row('dense', 50), row('other', 1), row('tuned', 40, needs='dense'))
    driver = open_driver(suite, project)
    assert driver.run(['tuned/seed1'])
    assert [(line['run'], line['seed']) for line in lines(project)] == [('dense', 1), ('tuned', 1)]


def test_measurement_takes_what_there_is_and_is_made_again_for_more(project):
    suite = make_suite(row('dense', 50), row('other', 1), measure())
    driver = open_driver(suite, project, seeds=[0])
    driver.run(['dense/seed0', 'measure'])
    assert set(lines(project)[-1]['values']['rows']) == {'dense/seed0'}
    driver = open_driver(suite, project)
    assert driver.board.places['measure'].state == 'done', 'of all rows that there are'
    driver.run()
    assert set(lines(project)[-1]['values']['rows']) == {f'{r}/seed{s}' for r in ('dense', 'other') for s in (0, 1)}


def test_measurement_needs_nothing_but_the_file_of_results(project):
    """So models that were trained elsewhere can be timed here."""
    suite = make_suite(row('dense', 50), row('tuned', 40, needs='dense'), measure(), seeds=(0,))
    open_driver(suite, project).run()
    rmtree(project / 'work' / 'runs')
    assert open_driver(suite, project, again=['measure']).run()
    job = json.loads(next(project.glob('work/runs/measure*/job.json')).read_text())
    sparsity = {row['key']: load_config(row['config']).model.backbone.sparsity for row in job['options']['rows']}
    assert sparsity == {'dense/seed0': 0.0, 'tuned/seed0': 0.25}


def test_out_of_reach_is_left_out_with_all_that_needs_it(project):
    found = {'size': {'0.5': {'unreachable': 'nothing is so fast'}}, 'sparsity': 0.0}
    runs = (
        Run('calibrate', 'calibrate', CONFIG, options={'values': found, 'shape': (1, 1)}, seeded=False),
        Run('size', 'train', CONFIG, adopt=From('calibrate', 'size', '0.5'), options={'shape': (1, 1), 'metric': 1}),
        row('tuned', 1, needs='size'),
        row('other', 1),
    )
    driver = open_driver(make_suite(*runs, seeds=(0,)), project)
    assert driver.run(), 'nothing failed'
    assert states(driver) == dict(
        zip(driver.board.places, ('done', 'left out', 'left out', 'done'), strict=True),
    )
    assert driver.board.places['tuned/seed0'].remark == 'size/seed0 is left out: nothing is so fast'
    assert open_driver(make_suite(*runs, seeds=(0,)), project).run()
    assert [line['state'] for line in lines(project)].count('left out') == 1


def test_value_that_an_earlier_run_did_not_find_is_an_error(project):
    runs = row('dense', 1), Run('x', 'train', CONFIG, {'a': From('dense', 'nothing')})
    driver = open_driver(make_suite(*runs, seeds=(0,)), project)
    assert not driver.run()
    assert lines(project)[-1]['error'] == 'dense: nothing was not found by that run.'


def test_device_that_is_gone_ends_the_suite_and_loses_nothing(project):
    suite = make_suite(row('dense', 50), row('lost', 1, gone=True), row('other', 2), seeds=(0,))
    driver = open_driver(suite, project)
    with pytest.raises(ValueError, match=r'device cpu is gone\. What was done is kept in .*results\.jsonl'):
        driver.run()
    assert [(line['run'], line['state']) for line in lines(project)] == [('dense', 'done'), ('lost', 'failed')]
    assert not calls(project, 'other'), 'nothing goes on without it'


def test_suite_goes_on_on_the_device_that_it_was_begun_on(project, monkeypatch):
    suite = make_suite(row('dense', 50))
    monkeypatch.setattr('sparsevit_mm.experiments.workplace._has_cuda', lambda: True)
    assert Workplace.open(suite, project, project / 'work').device == 'cuda'
    monkeypatch.setattr('sparsevit_mm.experiments.workplace._has_cuda', lambda: False)
    with pytest.raises(ValueError, match='device cuda, which the suite was begun on, is not there now: nothing was st'):
        Workplace.open(suite, project, project / 'work')
    place = Workplace.open(suite, project, project / 'work', 'cpu', 3)
    assert (place.device, place.environment()['CUDA_VISIBLE_DEVICES']) == ('cpu', '')
    assert Workplace.open(suite, project, project / 'work').threads == 3


def test_buffers_are_kept_alike_in_all_processes(project, monkeypatch):
    place = Workplace.open(make_suite(row('dense', 50)), project, project / 'work', 'cpu')
    assert place.environment()['MALLOC_TRIM_THRESHOLD_'] == str(1 << 30)
    monkeypatch.setenv('MALLOC_TRIM_THRESHOLD_', '5')
    assert 'MALLOC_TRIM_THRESHOLD_' not in place.environment()


def test_folder_of_another_suite_is_refused(project):
    open_driver(make_suite(row('dense', 50)), project)
    with pytest.raises(ValueError, match='holds the suite made-up, not other: give another --work-dir'):
        open_driver(make_suite(row('dense', 50), name='other'), project)


def test_jobs_run_at_once_but_those_that_take_times_run_alone(project, tmp_path):
    runs = (row('dense', 50), measure())
    suite, started = make_suite(*runs, seeds=(0, 1, 2)), []

    def told(task, word, sentence):
        started.append((word, task.run.name))

    assert open_driver(suite, project, told=told).run(jobs=2)
    assert [word for word, _ in started[:2]] == ['started', 'started']
    assert started[-2:] == [('started', 'measure'), ('done', 'measure')]
    running = 0
    for word, _ in started:
        running += 1 if word == 'started' else -1
        assert running <= 2


# Interruptions

DRIVE = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from shutil import rmtree
from made_up import make_suite, open_driver, row
project, gate = Path(sys.argv[1]), sys.argv[2]
runs = row('dense', 50), row('slow', 40, needs='dense', wait=gate, leave=True), row('other', 30)
suite = make_suite(*runs, seeds=(0,))
print(open_driver(suite, project).run())
"""


def _hear_ctrl_c():
    """What is started in the background of a shell ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def drive(project, gate):
    code = DRIVE.format(tests=str(Path(__file__).parent))
    return subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', code, str(project), str(gate)], preexec_fn=_hear_ctrl_c
    )


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, 'it never came'
        time.sleep(0.05)


def in_suite(gate):
    runs = row('dense', 50), row('slow', 40, needs='dense', wait=str(gate), leave=True), row('other', 30)
    return make_suite(*runs, seeds=(0,))


def running(project):
    """Processes that have a folder of this project in their command lines."""
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        with contextlib.suppress(OSError):
            if f'{project}/work/runs'.encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


@LINUX
@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGINT])
def test_killed_driver_takes_its_run_along_and_the_next_start_goes_on(project, tmp_path, how):
    gate = tmp_path / 'gate'
    process = drive(project, gate)
    wait_for(lambda: list(project.glob('work/runs/slow-*/waits')))
    with pytest.raises(InUse, match='is in use by another process'):
        open_driver(in_suite(gate), project).run()
    os.kill(process.pid, how)
    process.wait(60)
    assert [line['run'] for line in lines(project)] == ['dense']
    gate.touch()
    assert open_driver(in_suite(gate), project).run()
    assert [line['run'] for line in lines(project)] == ['dense', 'slow', 'other']
    assert lines(project)[1]['starts'] == 2
    wait_for(lambda: not running(project), 10)
    assert set(calls(project, 'dense').values()) == {1}


def test_run_that_ended_before_its_line_was_written_is_not_made_again(project):
    suite = make_suite(row('dense', 50), row('tuned', 40, needs='dense'), seeds=(0,))
    open_driver(suite, project).run()
    results = project / 'work' / 'results.jsonl'
    whole = results.read_bytes()
    results.write_bytes(whole[:-100])  # killed while it wrote
    driver = open_driver(suite, project)
    assert 'was not written to its end' in driver.remarks[0]
    assert states(driver) == {'dense/seed0': 'done', 'tuned/seed0': 'ready'}
    assert driver.run()
    assert set(calls(project, 'tuned').values()) == {1}
    assert lines(project)[-1]['values'] == {**lines(project)[-1]['values'], 'sparsity': 0.25}
    assert results.read_bytes().startswith(whole[:-100])


@LINUX
def test_run_that_is_killed_alone_is_told_as_such(project, tmp_path):
    suite = make_suite(row('slow', 40, wait=str(tmp_path / 'never')), seeds=(0,))
    told = []

    def kill(task, word, sentence):
        told.append(sentence)
        if word == 'started':
            wait_for(lambda: list(project.glob('work/runs/slow-*/waits')))
            lock = next(project.glob('work/runs/slow-*/job.json'))
            for process in Path('/proc').glob('[0-9]*/cmdline'):
                if str(lock).encode() in process.read_bytes():
                    os.kill(int(process.parent.name), signal.SIGKILL)

    # It is told before the process is started, so the killing is left to a thread.
    def later(task, word, sentence):
        if word == 'started':
            threading.Thread(target=kill, args=(task, word, sentence), daemon=True).start()
        told.append(sentence)

    assert not open_driver(suite, project, told=later).run()
    assert told[-1] == 'killed by signal 9, most likely for memory'
