"""A suite whose runs take moments: their process does what their options say."""

import json
import sys
from pathlib import Path

from sparsevit_mm.experiments import Claim, Driver, From, Row, Run, Suite, Workplace
from sparsevit_mm.experiments.results_file import Record

WORKER = Path(__file__).with_name('made_up_worker.py')
CONFIG = 'tiny.py'
SHAPE = (32, 48)


def make_project(folder):
    """A folder with a config."""
    (folder / 'configs').mkdir(parents=True)
    (folder / 'configs' / CONFIG).write_text('model = dict(backbone=dict(sparsity=0.0), neck=dict(sizes=[1, 2, 3]))\n')
    return folder


def row(name, value, *, label=None, budget=None, needs=None, seeded=True, **options):
    """A run that ends with a metric."""
    overrides = {'model.backbone.sparsity': From(needs, 'sparsity')} if needs else {}
    options = {'shape': SHAPE, 'metric': value, **options}
    return Run(name, 'train', CONFIG, overrides, options=options, seeded=seeded, row=Row(label or name, budget))


def measure(**options):
    return Run('measure', 'measure', CONFIG, options=options, seeded=False)


def make_suite(*runs, **more):
    values = dict(name='made-up', title='Made up', about='Nothing.', metric='mIoU', metric_title='mIoU', seeds=(0, 1))
    return Suite(**{**values, **more}, runs=runs)


def open_driver(suite, project, *, seeds=None, told=None, device='cpu', again=()):
    workplace = Workplace.open(suite, project, project / 'work', device)
    driver = Driver(suite, workplace, seeds, told=told, worker=(sys.executable, str(WORKER)))
    driver.make_again(again)
    return driver


def lines(project):
    """All of the file of results that can be read."""
    found = []
    for line in (project / 'work' / 'results.jsonl').read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def states(driver):
    return {key: place.state for key, place in driver.board.places.items()}


def make_record(run, seed=0, **more):
    """A record that says that a run is done."""
    values = dict(
        id=f'{run}-{seed}', suite='made-up', run=run, seed=seed, state='done', recipe='r', needs={}, values={},
        error=None, kind='train', config={}, row=None, commit='c', environment={}, started='', seconds=1.0, starts=1,
    )  # fmt: skip
    return Record(**{**values, **more})


def make_results(label, budget, metrics, ratio, macs=10**6):
    """Records of a row, and what a measurement says of them."""
    name = label if budget is None else f'{label}-{budget:g}'
    records, times = [], {}
    for seed, metric in enumerate(metrics):
        values = {'metrics': {'test': {'mIoU': metric}}, 'macs': macs, 'sparsity': [0.5], 'shape': list(SHAPE)}
        environment = {'device': 'cpu', 'device_name': 'a CPU', 'torch': '2', 'threads': 2}
        row = {'label': label, 'budget': budget}
        records.append(make_record(name, seed, values=values, row=row, environment=environment))
        part = {'median': ratio * 0.01, 'q1': ratio * 0.009, 'q3': ratio * 0.011}
        times[records[-1].key] = {'backbone': part, 'whole': {**part, 'median': (1 + ratio) / 2 * 0.02}}
    return records, times


def make_measurement(records, times):
    environment = {'device': 'cpu', 'device_name': 'a CPU', 'threads': 2}
    values = {'rows': times, 'environment': environment, 'rounds': 3, 'scope': 'all of it'}
    needs = {record.key: record.id for record in records}
    return make_record('measure', None, kind='measure', values=values, needs=needs)


CLAIM = Claim('better than b', 'a', 'b', 0.5)
