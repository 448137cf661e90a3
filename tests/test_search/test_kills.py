"""A search that is killed at any moment and started again: nothing is lost but what it was at, nothing done twice."""

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from search_problem import accuracy

from sparsevit_mm.search import Budget, SparsityStudy
from sparsevit_mm.search.storage import sqlite_url

WORKER = Path(__file__).with_name('killed_worker.py')
TRIALS = 50
DENSE = '0.0,0.0,0.0'
ENDED = {'told': TrialState.COMPLETE, 'given_up': TrialState.PRUNED}
# From when on a moment is drawn, how long after it is the latest one in seconds: start-up, set-up, the search itself.
MOMENTS = (None, 1.2), ('imported', 0.2), ('opened', 0.4), ('opened', 0.4)


class Killed(BaseException):
    pass


class Search:
    """Runs of a worker at one study, one after the other."""

    def __init__(self, folder, rungs):
        self.url, self.folder, self.rungs = sqlite_url(folder / 'study.sqlite3'), folder, rungs
        self.runs = []

    def start(self):
        number = len(self.runs)
        self.runs.append(self.folder / f'{number}.txt')
        command = [sys.executable, WORKER, self.url, self.runs[-1], '--trials', TRIALS, '--seed', number]
        with open(self.folder / f'{number}.err', 'w') as errors:
            return subprocess.Popen([*map(str, command), '--rungs', *map(str, self.rungs)], stderr=errors)

    def notes(self, run):
        return [line.split() for line in run.read_text().splitlines()] if run.exists() else []

    def errors(self):
        return self.runs[-1].with_suffix('.err').read_text()

    def kill_at(self, word, delay):
        """Starts it and kills it a while after it has noted a word, or after its start."""
        process, deadline = self.start(), time.monotonic() + 60
        try:
            while word is not None and [word] not in self.notes(self.runs[-1]):
                assert process.poll() is None and time.monotonic() < deadline, self.errors()
                time.sleep(0.005)
            time.sleep(delay)
            assert process.poll() in (None, 0), self.errors()
        finally:
            process.kill()
            process.wait()

    def run_to_the_end(self):
        process = self.start()
        try:
            assert process.wait(120) == 0, self.errors()
        finally:
            process.kill()
        assert self.notes(self.runs[-1])[-1] == ['over']


class Run:
    """What one process noted: the settings that it began, how those ended that it told, and what it was at last."""

    def __init__(self, notes):
        self.begun = [note[1] for note in notes if note[0] == 'begin']
        self.told = [(note[1], ENDED[note[0]]) for note in notes if note[0] in ENDED]
        self.lost = notes[-1][1] if notes and notes[-1][0] == 'begin' else None


@pytest.mark.slow
@pytest.mark.parametrize(('rungs', 'kills'), [((), 20), ((5, 20), 12)], ids=['plain', 'rungs'])
def test_many_kills_and_as_many_resumes(tmp_path, rungs, kills):
    search, rng = Search(tmp_path, rungs), random.Random(f'kills {rungs}')
    for number in range(kills):
        word, latest = MOMENTS[number % len(MOMENTS)]
        search.kill_at(word, rng.uniform(0, latest))
    search.run_to_the_end()
    runs = [Run(search.notes(path)) for path in search.runs]
    assert sum(bool(run.begun) for run in runs) > 3, 'kills fall into the search, not all before it'

    told = [note for run in runs for note in run.told]
    assert len({setting for setting, _ in told}) == len(told), 'what was told is never evaluated again'
    assert all(set(run.begun[:-1]) <= {setting for setting, _ in run.told} for run in runs), 'a kill loses one at most'
    lost, begun = Counter(run.lost for run in runs), Counter(setting for run in runs for setting in run.begun)
    assert all(times <= 1 + lost[setting] for setting, times in begun.items()), 'nothing else is begun again'

    study = optuna.load_study(study_name='sparsity', storage=search.url)
    assert not study.get_trials(states=[TrialState.RUNNING, TrialState.WAITING])
    kept = [
        (','.join(map(str, trial.params.values())), trial.state)
        for trial in study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED])
    ]
    settings = {setting for setting, _ in kept}
    assert len(settings) == len(kept) and len(settings - {DENSE}) == TRIALS
    assert set(told) <= set(kept), 'every finished trial is still there'
    for trial in study.get_trials(states=[TrialState.COMPLETE]):
        assert trial.value == accuracy(tuple(trial.params.values()))


def test_killed_while_a_candidate_is_given_up(space, cost, tmp_path, monkeypatch):
    """Its part of the images is stored, that it is given up is not: it is scored again and counted once."""
    options = dict(storage=sqlite_url(tmp_path / 'study.sqlite3'), trials=8, rungs=(5, 20), resume=True)
    tell = optuna.study.Study.tell

    def killed_at_the_first_end(self, trial, values=None, state=None, **options):
        if state == TrialState.PRUNED:
            raise Killed
        return tell(self, trial, values, state, **options)

    def search():
        study, given_up = SparsityStudy(space, cost, Budget(0.7), **options), []
        try:
            while (candidate := study.ask()) is not None:
                score = accuracy(candidate.sparsity)
                if study.report(candidate, 5, score):
                    given_up.append(candidate.sparsity)
                else:
                    study.tell(candidate, score)
            return study.outcome(), given_up
        finally:
            study.close()

    with monkeypatch.context() as patch:
        patch.setattr(optuna.study.Study, 'tell', killed_at_the_first_end)
        with pytest.raises(Killed):
            search()
    outcome, given_up = search()
    assert outcome.stopped_early == len(given_up) == len(set(given_up)) > 0 and outcome.interrupted == 1
    assert len(outcome.evaluations) + len(given_up) == 8
