"""Suites with real children: small programs in the place of the tool, and the tool itself on a tiny config."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sparsevit_mm.cost.suite_file import SuiteFile, read_suite_file, suite_environment
from sparsevit_mm.cost.suite_run import run_case, run_suite, select_cases, summary
from sparsevit_mm.cost.suites import Entry, suite_cases

TOOL = Path(__file__).parents[2] / 'tools' / 'benchmark.py'
TINY = """
default_scope = 'mmdet'
model = dict(backbone=dict(
    type='SwinTransformer', embed_dims=16, depths=[2, 2, 4, 2], num_heads=[1, 2, 4, 8]))
"""


def program(tmp_path: Path, text: str) -> list[str]:
    """Words that start a program that gets ``out``, the file to write a report to, and ``words``."""
    path = tmp_path / 'program.py'
    path.write_text(f'import os, signal, sys\nwords = sys.argv[1:]\nout = words[-1]\n{text}\n')
    return [sys.executable, str(path)]


def entries(config: str, **given) -> tuple[Entry, ...]:
    given = dict(sparsities=('0', '0.5'), batches=(1,), modes=('eager',), dtypes=('float32', 'bfloat16')) | given
    return (Entry('tiny', config, ((48, 64),), **given),)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('os.kill(os.getpid(), signal.SIGKILL)', 'killed by signal 9, most likely for memory'),
        ('os.kill(os.getpid(), signal.SIGTERM)', r'killed by signal 15 \(SIGTERM\)'),
        ('sys.exit("error: it is too large")', 'it is too large'),
        ('print("first", file=sys.stderr); raise MemoryError("no more")', 'MemoryError: no more'),
        ('open(out, "w").write("{"); sys.exit(0)', 'ended with status 0'),
        ('sys.exit(3)', 'ended with status 3'),
    ],
)
def test_whatever_ends_a_case_is_its_reason(tmp_path, text, message):
    result = run_case('a', ['--x'], program(tmp_path, text))
    assert result.report is None
    with pytest.raises(ValueError, match=message):
        raise ValueError(result.error)
    assert summary(result) == f'failed: {result.error}' and result.failures == [f'a: {result.error}']


def test_a_case_that_has_more_rows_than_asked_for_is_not_timed_again(tmp_path):
    log = tmp_path / 'log'
    text = f"open({str(log)!r}, 'a').write('x'); open(out, 'w').write('{{\"rows\": [], \"failures\": []}}')"
    command = program(tmp_path, text)

    def timed(*sparsities: str) -> str:
        cases = suite_cases(entries('config.py', sparsities=sparsities, dtypes=('float32',)))
        run_suite('mine', cases, command, folder=tmp_path, threads=1)
        return log.read_text()

    assert timed('0', '0.4', '0.6') == 'x'
    assert timed('0', '0.6') == 'x'
    assert timed('0', '0.8') == 'xx'
    assert timed('0', '0.4', '0.6') == 'xxx'


@pytest.mark.skipif(sys.platform != 'linux', reason='processes end with their parent on Linux')
def test_a_case_does_not_outlive_a_suite_that_is_killed(tmp_path):
    pid = tmp_path / 'pid'
    words = program(tmp_path, f'import time; open({str(pid)!r}, "w").write(str(os.getpid())); time.sleep(600)')
    start = f"from sparsevit_mm.cost.suite_run import run_case; run_case('a', [], {words!r})"
    suite = subprocess.Popen([sys.executable, '-c', start])
    wait_for(lambda: pid.exists() and pid.read_text())
    suite.kill()
    suite.wait()
    wait_for(lambda: not Path('/proc', pid.read_text()).exists())


def wait_for(condition, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_suite_goes_on_after_a_failure_and_takes_up_what_failed(tmp_path):
    log = tmp_path / 'log'
    text = f"""
import json
open({str(log)!r}, 'a').write(words[words.index('--dtype') + 1] + ' ')
if 'float32' in words and not os.path.exists({str(tmp_path / 'mended')!r}):
    os.kill(os.getpid(), signal.SIGKILL)
json.dump(dict(rows=[], failures=[]), open(out, 'w'))
"""
    command, cases = program(tmp_path, text), suite_cases(entries('config.py'))
    heard = []

    def run(**given):
        return run_suite(
            'mine', cases, command, folder=tmp_path / 'new', threads=1, told=lambda *said: heard.append(said), **given
        )

    path, results = run()
    assert [result.error is None for result in results] == [False, True]
    assert log.read_text() == 'float32 bfloat16 '
    assert [(number, result is None) for number, _, result in heard] == [(1, True), (1, False), (2, True), (2, False)]
    assert path.name.startswith('mine_') and '_1-thread_torch-' in path.name
    assert [case.error is None for case in read_suite_file(path)[2]] == [False, True]
    (tmp_path / 'mended').touch()
    _, results = run()
    assert [result.error for result in results] == [None, None]
    assert log.read_text() == 'float32 bfloat16 float32 '
    run(rounds=3)  # other words: timed again
    assert log.read_text().count(' ') == 5
    run(rounds=3, again=True)
    assert log.read_text().count(' ') == 7
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing unfinished is left


def test_the_tool_times_the_cases_of_a_suite(tmp_path):
    pytest.importorskip('mmdet')
    (tmp_path / 'tiny.py').write_text(TINY)
    made = entries(str(tmp_path / 'tiny.py'), dtypes=('float32',))
    cases = suite_cases((*made, replace(made[0], name='wrong', sparsities=('0', '.1,.2'))))
    path, results = run_suite(
        'mine', cases, [sys.executable, str(TOOL)], folder=tmp_path, threads=1, rounds=1, min_round_time=0
    )
    good, bad = results
    assert [row['sparsity'] and row['sparsity'][0] for row in good.report['rows']] == [None, 0, 0.5]
    assert good.report['environment']['threads'] == 1 and good.failures == []
    assert '5 sites' in bad.error
    assert json.loads(path.read_text())['cases'][0]['report'] == good.report
    assert summary(good).count('x)') == 3


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{', 'cannot be read as the file of a suite'),
        ('[]', 'cannot be read'),
        ('{"suite": "mine", "environment": {}}', "'cases' is missing"),
        ('{"suite": "mine", "environment": {}, "cases": [{"name": "a"}]}', "'arguments' is missing"),
        (
            '{"suite": "mine", "environment": {}, '
            '"cases": [{"name": "a", "arguments": [], "report": null, "error": null}]}',
            'neither a report nor an error',
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_left_as_it_is(tmp_path, text, message):
    environment = suite_environment('cpu', 1)
    path = SuiteFile(tmp_path, 'mine', environment).path
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        run_suite('mine', [], [], folder=tmp_path, threads=1)
    assert path.read_text() == text


def test_a_file_of_another_machine_is_refused(tmp_path):
    environment = suite_environment('cpu', 1)
    file = SuiteFile(tmp_path, 'mine', environment)
    file.put(run_case('a', [], program(tmp_path, 'sys.exit(3)')))
    values = json.loads(file.path.read_text())
    values['environment']['cores'] = 77
    file.path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match='other conditions: cores 77 there and'):
        SuiteFile(tmp_path, 'mine', environment)


def test_a_folder_that_cannot_be_written_is_said_before_anything_runs(tmp_path):
    (tmp_path / 'file').touch()
    ran = tmp_path / 'ran'
    command = program(tmp_path, f'open({str(ran)!r}, "w")')
    with pytest.raises(OSError, match='file'):
        run_suite('mine', suite_cases(entries('config.py')), command, folder=tmp_path / 'file' / 'new', threads=1)
    assert not ran.exists()


def test_graphs_are_for_cuda():
    with pytest.raises(ValueError, match="mode 'graphs' captures CUDA graphs, but the device is cpu"):
        select_cases('swin-coco', modes=['graphs'])
