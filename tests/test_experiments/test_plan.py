"""Suites are whole: what runs need comes before them, and what the project's own say is there."""

from itertools import pairwise
from pathlib import Path

import pytest
from made_up import CONFIG, make_suite, row

from sparsevit_mm.experiments import SUITES, From, Run, suite_named
from sparsevit_mm.experiments.configs import ConfigBook
from sparsevit_mm.experiments.plan import references
from sparsevit_mm.experiments.recipes import recipes_of
from sparsevit_mm.experiments.values import fill

pytest.importorskip('mmseg')
pytest.importorskip('mmdet')
pytest.importorskip('mmdet3d')


def test_tasks_are_runs_with_all_their_seeds_one_run_after_the_other():
    suite = make_suite(row('a', 1), row('b', 1, seeded=False), row('c', 1, needs='a'))
    assert [task.key for task in suite.tasks()] == ['a/seed0', 'a/seed1', 'b', 'c/seed0', 'c/seed1']
    assert [task.key for task in suite.tasks([7])] == ['a/seed7', 'b', 'c/seed7']
    last = list(suite.tasks())[-1]
    assert [task.key for task in suite.needs_of(last)] == ['a/seed1']


@pytest.mark.parametrize(
    ('runs', 'message'),
    [
        ((row('a', 1), row('a', 2)), 'two runs named a'),
        ((row('a', 1, needs='b'), row('b', 1)), 'a needs b, which is no run before it'),
        ((row('a', 1), row('b', 1, needs='a', seeded=False)), 'b is made once, but needs a'),
        ((Run('a', 'guess', CONFIG),), "kind of run a must be one of .*, got 'guess'"),
    ],
)
def test_what_cannot_be_run_is_refused(runs, message):
    with pytest.raises(ValueError, match=message):
        make_suite(*runs)


def test_unknown_suite_is_told_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"no suite 'camvid': choose one of camvid-swin, .*smoke"):
        suite_named('camvid')


@pytest.mark.parametrize('suite', SUITES.values(), ids=list(SUITES))
class TestSuitesOfTheProject:
    def test_claims_speak_of_rows_that_there_are(self, suite):
        rows = {(run.row.label, run.row.budget) for run in suite.runs if run.row is not None}
        for claim in suite.claims:
            for label in (claim.of, claim.against):
                assert (label, claim.budget) in rows or (label, None) in rows, claim
        assert suite.dense in {label for label, _ in rows}

    def test_rows_are_all_measured_at_the_end(self, suite):
        assert suite.runs[-1].kind == 'measure'
        assert sum(run.kind == 'measure' for run in suite.runs) == 1

    def test_overrides_fit_the_configs(self, suite, repo_configs):
        for run in suite.runs:
            cfg = repo_configs.changed(run.config, fill(run.overrides, _anything, repo_configs.folder, 3), 3)
            assert cfg.randomness.seed == 3
            if run.kind == 'train':
                assert 'sparsevit_mm.' in cfg.model.backbone.type

    def test_candidates_of_controls_fit_the_configs(self, suite, repo_configs):
        for run in suite.runs:
            for candidates in run.options.get('controls', {}).values():
                labels = [candidate['label'] for candidate in candidates]
                assert len(set(labels)) == len(labels) > 1
                cfgs = [repo_configs.changed(run.config, c['overrides'], None).to_dict() for c in candidates]
                assert all(one != other for one, other in pairwise(cfgs))

    def test_nothing_is_tested_that_was_chosen_by(self, suite):
        """Searches choose by training pictures, and budgets by latency; no run takes a value from a test."""
        for run in suite.runs:
            for reference in references((run.overrides, run.adopt, run.options)):
                assert reference.path[0] != 'metrics', (run.name, reference)

    def test_recipes_differ_between_all_tasks(self, suite, repo_configs):
        recipes = recipes_of(suite, list(suite.tasks()), repo_configs.content, {'device': 'cpu', 'threads': 2})
        by_recipe = {}
        for key, recipe in recipes.items():
            assert recipe not in by_recipe, f'{key} and {by_recipe[recipe]} are the same'
            by_recipe[recipe] = key


def test_trained_as_long_means_as_many_pictures():
    """Dense goes on for as long as adaptation and fine-tuning take together, narrower models for all of it."""
    suite = SUITES['camvid-swin']
    runs = {run.name: run for run in suite.runs}
    book = ConfigBook(_configs())

    def epochs(name):
        overrides = fill(runs[name].overrides, _anything, book.folder, 0)
        return book.changed(runs[name].config, overrides, 0).train_cfg.max_epochs

    together = epochs('adapt') + epochs('found-65')
    assert (
        epochs('longer')
        == epochs('size-65')
        == epochs('unadapted-65')
        == epochs('tokens')
        == epochs('reranked-65') + epochs('adapt')
        == together
    )
    assert epochs('width-65') == epochs('dense') + together
    assert epochs('uniform-65') == epochs('random-65') == epochs('distilled-65') == epochs('found-65')
    assert [run.overrides['load_from'] for run in (runs['found-65'], runs['uniform-65'])] == [
        From('adapt', 'checkpoint')
    ] * 2
    assert 'load_from' not in runs['width-65'].overrides


def _anything(name):
    """Values of any run: a sparsity of six sites, a file, overrides of nothing."""

    class Values(dict):
        def __contains__(self, key):
            return key != 'unreachable'

        def __getitem__(self, key):
            if key == 'sparsity':
                return [0.0] * 6
            return 'weights.pth' if key == 'checkpoint' else Values()

    return Values()


def _configs():
    return Path(__file__).parents[2] / 'configs'


@pytest.fixture(scope='module')
def repo_configs():
    return ConfigBook(_configs())
