"""Real processes at one study."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from postgres import postgres, postgres_url

from sparsevit_mm.search.storage import open_storage, sqlite_url

__all__ = ['postgres', 'postgres_url']

WORKER = Path(__file__).with_name('shared_worker.py')
TRIALS = 12


class Workers:
    """The processes at a study, by their labels."""

    def __init__(self, url, folder):
        self.url, self.folder, self.processes = url, folder, {}

    def start(self, label, *options):
        command = [sys.executable, str(WORKER), self.url, str(self.folder), label, '--trials', str(TRIALS), *options]
        with (self.folder / f'{label}.err').open('w') as errors:
            self.processes[label] = subprocess.Popen(command, stderr=errors)

    def signal(self, label, number):
        os.kill(self.processes[label].pid, number)

    def let_go(self, label):
        (self.folder / f'{label}.go').touch()

    def notes(self, label, word):
        """What a worker noted under a word."""
        path = self.folder / f'{label}.txt'
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.partition(' ')[2] for line in lines if line.partition(' ')[0] == word]

    def wait_for(self, label, word, count=1, seconds=40):
        deadline = time.monotonic() + seconds
        while len(notes := self.notes(label, word)) < count:
            assert self.processes[label].poll() is None, (self.folder / f'{label}.err').read_text()
            assert time.monotonic() < deadline, f'{label} has {len(notes)} of {count} {word!r}'
            time.sleep(0.02)
        return notes

    def end(self, *labels, seconds=60):
        """Waits until workers end, without an error."""
        for label in labels:
            code = self.processes[label].wait(seconds)
            assert code == 0, (self.folder / f'{label}.err').read_text()
            assert self.notes(label, 'over:') == [f'all {TRIALS} evaluations are made']

    def begun(self):
        """How often an evaluation of each setting was begun."""
        return Counter(setting for label in self.processes for setting in self.notes(label, 'begun'))

    def complete(self):
        """The complete trials by their settings; no setting has two of them."""
        study = optuna.load_study(study_name='sparsity', storage=open_storage(self.url))
        assert not study.get_trials(states=[TrialState.RUNNING, TrialState.WAITING])
        trials = study.get_trials(states=[TrialState.COMPLETE])
        by_setting = {','.join(map(str, trial.params.values())): trial for trial in trials}
        assert len(by_setting) == len(trials) == TRIALS + 1, 'the dense reference is one more'
        return by_setting


@pytest.fixture(params=['sqlite', 'postgresql'])
def url(request, tmp_path):
    if request.param == 'sqlite':
        return sqlite_url(tmp_path / 'study.sqlite3')
    return request.getfixturevalue('postgres_url')


@pytest.fixture
def workers(url, tmp_path):
    workers = Workers(url, tmp_path)
    yield workers
    for process in workers.processes.values():
        process.kill()
        process.wait()


on_server = pytest.mark.parametrize('url', ['postgresql'], indirect=True)


def test_workers_that_start_at_once_share_the_work(workers):
    labels = ['first', 'second', 'third']
    for label in labels:
        workers.start(label)
    workers.end(*labels)
    begun = workers.begun()
    assert set(begun) == set(workers.complete()) and set(begun.values()) == {1}
    assert all(workers.notes(label, 'told') for label in labels)
    assert sum(len(workers.notes(label, 'calibrated')) for label in labels) == 1


def test_what_a_killed_worker_was_at_is_taken_up_again(workers):
    workers.start('killed', '--hold', '3')
    workers.wait_for('killed', 'begun')
    workers.start('other')
    workers.wait_for('other', 'begun')
    [lost] = workers.wait_for('killed', 'held')
    workers.signal('killed', signal.SIGKILL)
    workers.end('other')
    begun, complete = workers.begun(), workers.complete()
    assert begun.pop(lost) == 2 and set(begun.values()) == {1}
    assert set(complete) == {lost, *begun}
    assert lost in workers.notes('other', 'told')


@on_server
def test_the_late_result_of_a_slow_worker_is_kept(workers):
    """Another one has taken its candidate up meanwhile: whoever is first gives the result."""
    workers.start('slow', '--hold', '3')
    workers.wait_for('slow', 'begun')
    workers.start('other', '--hold-taken-up')
    workers.wait_for('other', 'begun')
    [setting] = workers.wait_for('slow', 'held')
    workers.signal('slow', signal.SIGSTOP)
    assert workers.wait_for('other', 'held') == [setting]
    workers.let_go('slow')
    workers.signal('slow', signal.SIGCONT)
    workers.wait_for('slow', 'told', count=3)
    workers.let_go('other')
    workers.end('slow', 'other')
    begun, complete = workers.begun(), workers.complete()
    assert begun.pop(setting) == 2 and set(begun.values()) == {1}
    assert set(complete) == {setting, *begun}
    slow = f':{workers.processes["slow"].pid}'
    assert 'late_result_of' in complete[setting].user_attrs and complete[setting].user_attrs['worker'].endswith(slow)


@on_server
def test_a_restart_of_the_server_stops_nobody(workers, postgres):
    labels = ['first', 'second']
    for label in labels:
        workers.start(label, '--hold', '2')
    for label in labels:
        workers.wait_for(label, 'held')
    postgres.stop()
    try:
        for label in labels:
            workers.let_go(label)
        for label in labels:
            assert 'the storage does not answer' in workers.wait_for(label, 'waits:')[0]
    finally:
        postgres.start()
    workers.end(*labels)
    assert set(workers.complete()) == set(workers.begun())
