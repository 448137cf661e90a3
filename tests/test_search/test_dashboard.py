"""What a person sees of a search in optuna-dashboard, read through the API that its pages read."""

import csv
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from search_problem import LinearCost, accuracy

from sparsevit_mm.search import Budget, SparsityLayout, SparsitySpace, SparsityStudy

pytest.importorskip('optuna_dashboard')

LAYOUT = SparsityLayout(('stage1.pair1', 'stage1.pair2', 'stage2.pair1'), (2, 1))
SPACE = SparsitySpace(LAYOUT, (0.0, 0.2, 0.5, 0.8))
START = 60  # seconds
LIMIT = 0.7 * LinearCost().calibrate()['dense']


def _search(url, name, budget=None, rungs=()):
    """Searches as the loop does; the first images tell all but a constant."""
    study = SparsityStudy(SPACE, LinearCost(), budget, storage=url, name=name, trials=12, rungs=rungs)
    while (candidate := study.ask()) is not None:
        score = accuracy(candidate.sparsity)
        if not any(study.report(candidate, images, {'mIoU': score - 1}) for images in rungs[:-1]):
            study.tell(candidate, {'mIoU': score, 'aAcc': 80.0})
    study.close()
    return study.outcome()


@pytest.fixture(scope='module')
def searched(tmp_path_factory):
    """A database with a search under a budget and one of the front, and what came of them."""
    url = f'sqlite:///{tmp_path_factory.mktemp("dashboard") / "study.sqlite3"}'
    return url, _search(url, 'budget', Budget(0.7), (10, 20, 40)), _search(url, 'front')


@pytest.fixture(scope='module')
def get(searched):
    """Reads a page of a dashboard that was started as a user starts it."""
    command = shutil.which('optuna-dashboard', path=Path(sys.executable).parent)
    assert command, 'optuna-dashboard is installed without its command'
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    options = ['--host', '127.0.0.1', '--port', str(port)]
    log = subprocess.DEVNULL
    server = subprocess.Popen([command, searched[0], *options], stdout=log, stderr=log)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def read(path):
        with opener.open(f'http://127.0.0.1:{port}{path}', timeout=30) as answer:
            return answer.read().decode()

    try:
        _await(server, read)
        yield read
    finally:
        server.kill()
        server.wait()


def _await(server, read):
    deadline = time.monotonic() + START
    while True:
        try:
            return read('/api/meta')
        except urllib.error.URLError:
            assert server.poll() is None, 'the dashboard has ended'
            assert time.monotonic() < deadline, 'the dashboard does not answer'
            time.sleep(0.1)


@pytest.fixture(scope='module')
def studies(get):
    """Both studies by name, as their pages get them."""
    listed = json.loads(get('/api/studies'))['study_summaries']
    return {study['study_name']: json.loads(get(f'/api/studies/{study["study_id"]}')) for study in listed}


def _attributes(trial):
    return {item['key']: item['value'] for item in trial['user_attrs']}


def _sparsity(trial):
    return tuple(float(parameter['param_external_value']) for parameter in trial['params'])


def test_both_studies_are_listed_with_their_objectives(get, studies):
    assert '<html' in get('/dashboard/')
    assert studies['budget']['directions'] == ['maximize']
    assert studies['budget']['objective_names'] == ['mIoU']
    assert studies['front']['directions'] == ['maximize', 'minimize']
    assert studies['front']['objective_names'] == ['mIoU', 'macs']


@pytest.mark.parametrize('name', ['budget', 'front'])
def test_parameters_are_sparsities_of_sites(studies, name):
    space = studies[name]['intersection_search_space']
    assert sorted(parameter['name'] for parameter in space) == list(LAYOUT.sites)
    for trial in studies[name]['trials']:
        assert [parameter['name'] for parameter in trial['params']] == list(LAYOUT.sites)
        assert _sparsity(trial) in SPACE


def test_every_evaluation_is_a_trial_with_its_cost(searched, studies):
    for outcome, name in zip(searched[1:], ('budget', 'front')):
        complete = {trial['number']: trial for trial in studies[name]['trials'] if trial['state'] == 'Complete'}
        assert len(outcome.evaluations) > 3
        for e in outcome.evaluations:
            trial = complete[e.number]
            assert _sparsity(trial) == e.sparsity
            assert trial['values'][0] == e.accuracy
            assert float(_attributes(trial)['cost']) == e.cost
            assert json.loads(_attributes(trial)['result'])['metrics'] == {'mIoU': e.accuracy, 'aAcc': 80.0}


def test_the_constraint_tells_the_dense_reference_from_what_keeps_the_budget(studies):
    trials = studies['budget']['trials']
    for trial in trials:
        assert trial['constraints'] == pytest.approx([float(_attributes(trial)['cost']) - LIMIT], abs=1e-6)
    over = [_attributes(trial) for trial in trials if trial['constraints'][0] > 0]
    assert [attributes['reference'] for attributes in over] == ['True']
    assert not any(trial['constraints'] for trial in studies['front']['trials'])


def test_candidates_that_were_given_up_are_pruned_and_show_their_steps(searched, studies):
    study, outcome = studies['budget'], searched[1]
    assert study['has_intermediate_values'] and not studies['front']['has_intermediate_values']
    pruned = [trial for trial in study['trials'] if trial['state'] == 'Pruned']
    assert len(pruned) == outcome.stopped_early > 0
    for trial in pruned:
        assert _attributes(trial)['stopped_at'] == {1: '10', 2: '20'}[trial['intermediate_values'][-1]['step']]
    for trial in study['trials']:
        if trial['state'] == 'Complete':
            assert [step['value'] for step in trial['intermediate_values']] == [trial['values'][0] - 1] * 2


def test_the_front_is_that_of_the_report(searched, studies):
    best = {_sparsity(trial) for trial in studies['front']['best_trials']}
    assert best == {e.sparsity for e in searched[2].front}


def test_the_table_for_other_programs_has_sites_and_costs(get, searched):
    number = next(
        study['study_id']
        for study in json.loads(get('/api/studies'))['study_summaries']
        if study['study_name'] == 'budget'
    )
    rows = {int(row['Number']): row for row in csv.DictReader(get(f'/csv/{number}').splitlines())}
    best = searched[1].best
    row = rows[best.number]
    assert tuple(float(row[f'Param {site}']) for site in LAYOUT.sites) == best.sparsity
    assert float(row['UserAttribute cost']) == best.cost
