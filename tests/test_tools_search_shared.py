"""A worker of two ranks and one of a single process, the search tool both, at one study on a server."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import psutil
import pytest
from forked import Program
from optuna.trial import TrialState
from postgres import postgres, postgres_url
from tiny_segmentation import make_project

from sparsevit_mm.search.storage import open_storage

__all__ = ['postgres', 'postgres_url']

ROOT = Path(__file__).parents[1]
TRIALS = 6
LAUNCH = ['-m', 'torch.distributed.run', '--nproc_per_node', '2', '--standalone']
# Takes its time for a batch, and waits in the evaluation with a given number until a file is there.
MODULE = """
import os
import time
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class Slow(Hook):
    evaluations = 0

    def before_test_epoch(self, runner):
        Slow.evaluations += 1
        with open(os.path.join(runner.work_dir, f'evaluations_{runner.rank}.txt'), 'a') as file:
            file.write('begin\\n')

    def before_test_iter(self, runner, batch_idx, data_batch=None):
        time.sleep(0.2)
        while Slow.evaluations == int(os.environ.get('HOLD', 0)) and not os.path.exists(os.environ['GO']):
            time.sleep(0.05)
"""


class Workers:
    """The tool in processes of its own, each with a work dir."""

    def __init__(self, folder, url):
        self.folder, self.url = folder, url
        stock, self.checkpoint = make_project(folder)
        (folder / 'slow.py').write_text(MODULE)
        self.config = folder / 'slowly.py'
        self.config.write_text(
            f"_base_ = {str(stock)!r}\ncustom_imports = dict(imports=['slow'])\ncustom_hooks = [dict(type='Slow')]\n"
        )
        self.processes = {}

    def start(self, label, ranks=1, hold=0):
        (self.folder / label).mkdir()
        tool, log = ROOT / 'tools' / 'search_sparsity.py', self.folder / f'{label}.log'
        words = [self.config, self.checkpoint, '--work-dir', self.folder / label]
        words += ['--budget', '0.75', '--budget-metric', 'macs', '--choices', '0', '0.5', '0.8', '--trials', TRIALS]
        words += ['--storage', self.url, '--heartbeat', '1', '--grace', '3']
        own = {'PYTHONPATH': f'{self.folder}:{ROOT}', 'OMP_NUM_THREADS': '1'}
        own |= {'HOLD': str(hold), 'GO': str(self.folder / f'{label}.go')}
        if ranks == 1:
            self.processes[label] = Program(tool, *words, output=log, env=own)
            return
        command = [sys.executable, '-W', 'ignore', *LAUNCH, tool, *words, '--launcher', 'pytorch']
        with open(log, 'w') as file:
            self.processes[label] = subprocess.Popen(
                [*map(str, command)], cwd=ROOT, env=os.environ | own, stdout=file, stderr=subprocess.STDOUT
            )

    def let_go(self, label):
        (self.folder / f'{label}.go').touch()

    def said(self, label):
        return (self.folder / f'{label}.log').read_text()

    def evaluations(self, label, rank=0):
        path = self.folder / label / f'evaluations_{rank}.txt'
        return len(path.read_text().splitlines()) if path.exists() else 0

    def wait_for_evaluations(self, label, count, seconds=150):
        deadline = time.monotonic() + seconds
        while self.evaluations(label) < count:
            assert self.processes[label].poll() is None and time.monotonic() < deadline, self.said(label)[-3000:]
            time.sleep(0.05)

    def end(self, label, seconds=150):
        assert self.processes[label].wait(seconds) == 0, self.said(label)[-3000:]

    def kill(self, label):
        """Kills all of its processes; the launcher gives each rank a process group of its own."""
        launcher = psutil.Process(self.processes[label].pid)
        for process in [launcher, *launcher.children(recursive=True)]:
            process.kill()
        self.processes[label].wait()

    def trials(self):
        """The finished trials; there are no others, and no setting has two."""
        study = optuna.load_study(study_name='sparsity', storage=open_storage(self.url))
        assert not study.get_trials(states=[TrialState.RUNNING, TrialState.WAITING])
        trials = study.get_trials(states=[TrialState.COMPLETE])
        assert len({tuple(trial.params.values()) for trial in trials}) == len(trials)
        assert sum(not trial.user_attrs.get('reference', False) for trial in trials) == TRIALS
        return trials


@pytest.fixture
def workers(tmp_path, postgres_url):
    workers = Workers(tmp_path, postgres_url)
    yield workers
    for label, process in workers.processes.items():
        if process.poll() is None:
            workers.kill(label)


@pytest.mark.slow
def test_two_ranks_and_one_process_share_a_study(workers):
    workers.start('two', ranks=2, hold=2)
    workers.start('one', hold=2)
    for label in ('two', 'one'):  # whoever is first waits for the other one in its second evaluation
        workers.wait_for_evaluations(label, 1)
    for label in ('two', 'one'):
        workers.let_go(label)
    for label in ('two', 'one'):
        workers.end(label)
    trials = workers.trials()
    by_worker = Counter(trial.user_attrs['worker'] for trial in trials)
    assert sorted(by_worker.values()) == sorted(workers.evaluations(label) for label in ('two', 'one'))
    assert workers.evaluations('two', rank=1) == workers.evaluations('two') > 0 < workers.evaluations('one')
    for label in ('two', 'one'):
        assert (workers.folder / label / 'report.html').exists()


@pytest.mark.slow
def test_what_two_killed_ranks_were_at_is_taken_up(workers):
    workers.start('two', ranks=2, hold=2)
    workers.start('one', hold=3)
    for label, count in (('two', 2), ('one', 1)):
        workers.wait_for_evaluations(label, count)
    workers.kill('two')
    workers.let_go('one')
    workers.end('one')
    trials = workers.trials()
    [again] = [trial for trial in trials if 'retry_of' in trial.user_attrs]
    study = optuna.load_study(study_name='sparsity', storage=open_storage(workers.url))
    lost = study.trials[again.user_attrs['retry_of']]
    assert lost.state == TrialState.FAIL and lost.params == again.params
    assert lost.user_attrs['worker'] != again.user_attrs['worker']
    assert workers.evaluations('one') == len(trials) - 1, 'one was told by the two ranks'
