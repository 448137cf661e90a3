import csv
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from forked import Program
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS
from quick_sqlite import quick_sqlite
from tiny_segmentation import make_project

from sparsevit_mm.apis import load_config, sparsify_config
from sparsevit_mm.config import drop_pretrained
from sparsevit_mm.cost import LatencyTable
from sparsevit_mm.models import find_sparse_backbone
from sparsevit_mm.models.checkpoints import load_into
from sparsevit_mm.runs import build_runner

__all__ = ['quick_sqlite']
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp('tiny'))


def search_runner(project, work_dir, change=None, **loop):
    config, checkpoint = project
    cfg = sparsify_config(load_config(config), 0.25)
    drop_pretrained(cfg)
    options = dict(budget=0.7, budget_metric='macs', trials=5, choices=(0.0, 0.5, 0.8))
    cfg.test_cfg = dict(type='sparsevit_mm.SparsitySearchLoop', **{**options, **loop})
    cfg.work_dir = str(work_dir)
    if change:
        change(cfg)
    runner = build_runner(cfg)
    load_into(runner.model, checkpoint)
    return runner


def test_searches_and_leaves_its_files(project, tmp_path):
    runner = search_runner(project, tmp_path)
    found = runner.test()
    outcome = runner.test_loop.outcome
    assert found == {'mIoU': outcome.best.accuracy, 'cost': outcome.best.cost}
    assert len(outcome.evaluations) == len({e.sparsity for e in outcome.evaluations}) == 5
    assert all(e.cost <= 0.7 * outcome.dense_cost for e in outcome.evaluations)
    names = {'study.sqlite3', 'report.md', 'pareto.png', 'pareto.csv', 'candidates.csv', 'best_config.py'}
    assert names <= {path.name for path in tmp_path.iterdir()}
    assert find_sparse_backbone(runner.model).sparsity == (0.25, 0.25), 'the sparsity of before comes back'


def test_accuracy_is_what_testing_gives(project, tmp_path):
    runner = search_runner(project, tmp_path, search_images=8, trials=3)
    runner.test()
    best = runner.test_loop.outcome.best

    def test_on_training_images(cfg):
        cfg.test_cfg = dict(type='TestLoop')
        cfg.test_dataloader.dataset.data_prefix = cfg.train_dataloader.dataset.data_prefix
        cfg.model.backbone.sparsity = best.sparsity

    tested = search_runner(project, tmp_path / 'test', test_on_training_images).test()
    assert tested['mIoU'] == best.accuracy


def test_scores_training_images_and_no_others(project, tmp_path):
    seen = []

    @HOOKS.register_module(force=True)
    class SeenImages(Hook):
        def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            seen.extend(sample.img_path for sample in outputs)

    runner = search_runner(project, tmp_path, lambda cfg: cfg.update(custom_hooks=[dict(type='SeenImages')]), trials=2)
    runner.test()
    images = {Path(path).parts[-3] for path in seen}
    assert images == {'train'}
    assert len(set(seen)) == 4, 'half of the training set'
    assert len(seen) == 4 * 3, 'two candidates and the dense reference'


def test_latency_budget(project, tmp_path):
    options = dict(budget='10s', budget_metric='latency', trials=1, shape=(32, 32), latency_rounds=2)
    runner = search_runner(project, tmp_path, **options)
    runner.test()
    study = runner.test_loop.session.study
    table = LatencyTable.load(tmp_path / 'latency_table.json')
    assert study.calibration['dense'] == table.dense > 0 and table.environment.shape == (32, 32)
    assert len(table.check) == 9, 'all settings that there are'
    assert table.rounds == 2
    report = (tmp_path / 'report.md').read_text()
    assert 'Measured' in report and 'off by' in report and 'rounds' in report
    assert [m.sparsity for m in runner.test_loop.session.measured] == [(0.0, 0.0)], 'nothing else was found'


def test_latency_of_the_whole_model(project, tmp_path):
    options = dict(budget='10s', budget_metric='latency', trials=1, shape=(32, 32), whole_model=True, latency_rounds=1)
    runner = search_runner(project, tmp_path, **options)
    runner.test()
    calibration = runner.test_loop.session.study.calibration
    assert calibration['dense'] == calibration['model_rest'] + LatencyTable.from_dict(calibration['table']).dense
    assert 'latency of the whole model' in (tmp_path / 'best_config.py').read_text()


def test_weak_candidates_are_given_up_early(project, tmp_path):
    runner = search_runner(project, tmp_path, budget=0.9, trials=6, search_images=8, rungs=(0.25, 0.5))
    runner.test()
    outcome = runner.test_loop.outcome
    assert outcome.stopped_early > 0 and outcome.saved > 0
    assert len(outcome.evaluations) + outcome.stopped_early == 6
    assert 'Stopped early' in (tmp_path / 'report.md').read_text()


def test_resumes_without_evaluating_again(project, tmp_path):
    search_runner(project, tmp_path, trials=3).test()
    runner = search_runner(project, tmp_path, trials=5, resume=True)
    runner.test()
    outcome = runner.test_loop.outcome
    assert len(outcome.evaluations) == len({e.sparsity for e in outcome.evaluations}) == 5


def test_other_weights_are_another_study(project, tmp_path):
    search_runner(project, tmp_path, trials=2).test()
    runner = search_runner(project, tmp_path, trials=4, resume=True)
    next(runner.model.parameters()).data += 1
    with pytest.raises(ValueError, match='of another configuration: weights is'):
        runner.test()


@pytest.fixture
def foreground():
    """Ctrl-C as in a terminal, even where these tests run in the background and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c(times):
    """A hook that presses it so often in the third evaluation: that of the second candidate after the dense one."""

    @HOOKS.register_module(name='CtrlC', force=True)
    class CtrlC(Hook):
        epochs = 0

        def before_test_epoch(self, runner):
            CtrlC.epochs += 1
            for _ in range(times if CtrlC.epochs == 3 else 0):
                signal.raise_signal(signal.SIGINT)

    return lambda cfg: cfg.update(custom_hooks=[dict(type='CtrlC')])


def test_ctrl_c_finishes_the_candidate(project, tmp_path, foreground):
    runner = search_runner(project, tmp_path, press_ctrl_c(1))
    runner.test()
    assert len(runner.test_loop.outcome.evaluations) == 2
    assert (tmp_path / 'report.html').exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    runner = search_runner(project, tmp_path, resume=True)
    runner.test()
    assert len(runner.test_loop.outcome.evaluations) == 5 and runner.test_loop.outcome.interrupted == 0


def test_second_ctrl_c_gives_the_candidate_back(project, tmp_path, foreground):
    runner = search_runner(project, tmp_path, press_ctrl_c(2))
    with pytest.raises(KeyboardInterrupt):
        runner.test()
    assert 'Candidates: 1 of 5' in (tmp_path / 'report.md').read_text().replace('*', '')
    runner = search_runner(project, tmp_path, resume=True)
    runner.test()
    outcome = runner.test_loop.outcome
    assert len(outcome.evaluations) == 5 and outcome.interrupted == 1


def test_ctrl_c_is_ignored_where_it_was(project, tmp_path, foreground):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    runner = search_runner(project, tmp_path, press_ctrl_c(2))
    runner.test()
    assert len(runner.test_loop.outcome.evaluations) == 5


class TestFailures:
    @staticmethod
    def failing(at):
        @METRICS.register_module(name='Failing', force=True)
        class Failing(BaseMetric):
            calls = 0

            def process(self, data_batch, data_samples):
                self.results.append(0)

            def compute_metrics(self, results):
                Failing.calls += 1
                if Failing.calls in at:
                    raise RuntimeError('out of memory')
                return {'accuracy': float(Failing.calls)}

        return lambda cfg: setattr(cfg, 'val_evaluator', dict(type='Failing'))

    def test_one_failure_is_noted_and_the_search_goes_on(self, project, tmp_path):
        runner = search_runner(project, tmp_path, self.failing({3}), trials=3)
        runner.test()
        assert len(runner.test_loop.outcome.evaluations) == 3
        assert len(runner.test_loop.outcome.failed) == 1

    def test_three_in_a_row_end_it_with_the_cause(self, project, tmp_path):
        runner = search_runner(project, tmp_path, self.failing({3, 4, 5}), trials=9)
        with pytest.raises(RuntimeError, match=r'3 evaluations in a row failed.*out of memory'):
            runner.test()
        assert (tmp_path / 'report.md').exists()


@pytest.mark.parametrize(
    ('loop', 'message'),
    [
        (dict(budget=0.01), r'budget .* cannot be reached.*Give a budget of at least 0\.\d+'),
        (dict(budget='30ms'), r"budget '30ms' cannot be read.*costs are in MACs here"),
        (dict(budget_metric='energy'), r"budget_metric must be one of latency, macs, got 'energy'"),
        (dict(budgte=1), r"SparsitySearchLoop has no option 'budgte'"),
        (dict(budget=0.7, budget_metric='latency', latency_rounds=0), 'latency_rounds must be at least 1, got 0'),
        (dict(search_images=0), 'number of search images must be at least 1'),
        (dict(metric='mAP'), r"metric 'mAP' is not among what the evaluator gives: aAcc, mIoU, mAcc"),
        (dict(choices=(0.0, 1.0)), r'choices must be distinct values in \[0, 1\)'),
    ],
)
def test_mistakes_are_named(project, tmp_path, loop, message):
    with pytest.raises(ValueError, match=message):
        search_runner(project, tmp_path, **loop).test()


def test_pareto_csv_is_a_front(project, tmp_path):
    search_runner(project, tmp_path, budget=None, trials=9).test()
    with open(tmp_path / 'pareto.csv') as file:
        rows = list(csv.DictReader(file))
    costs, accuracies = ([float(row[key]) for row in rows] for key in ('cost [MACs]', 'mIoU'))
    assert rows and np.all(np.diff(costs) > 0) and np.all(np.diff(accuracies) > 0)


@pytest.mark.slow
def test_two_ranks_find_what_one_finds(project, tmp_path):
    config, checkpoint = project
    tool = ROOT / 'tools' / 'search_sparsity.py'
    words = [
        *(config, checkpoint, '--budget', '0.7', '--budget-metric', 'macs'),
        *('--trials', '4', '--search-images', '6', '--choices', '0', '0.5', '0.8'),
    ]
    alone = Program(tool, *words, '--work-dir', tmp_path / 'alone', output=tmp_path / 'alone.txt')
    launch = ['-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_port', '0', '--standalone']
    both = [
        sys.executable,
        '-W',
        'ignore',
        *launch,
        tool,
        *words,
        '--launcher',
        'pytorch',
        '--work-dir',
        tmp_path / 'both',
    ]
    done = subprocess.run([*map(str, both)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert alone.wait(300) == 0, alone.said()
    assert _scored(tmp_path / 'alone') == _scored(tmp_path / 'both')


def _scored(work_dir):
    with open(work_dir / 'candidates.csv') as file:
        return [{k: v for k, v in row.items() if k != 'seconds'} for row in csv.DictReader(file)]
