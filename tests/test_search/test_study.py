import itertools
import math
import random

import optuna
import pytest
from search_problem import ExactCost, NoisyCost, accuracy, linear_cost, optimum

from sparsevit_mm.search import Budget, SparsityStudy
from sparsevit_mm.search.storage import sqlite_url
from sparsevit_mm.sparsity import SparsityLayout, SparsitySpace

DENSE = linear_cost((0.0,) * 3)


def run(study, stop_after=None):
    """Evaluates until the study ends or so many evaluations are made; what was evaluated."""
    evaluated = []
    while len(evaluated) != stop_after and (candidate := study.ask()) is not None:
        evaluated.append(candidate.sparsity)
        study.tell(candidate, accuracy(candidate.sparsity))
    return evaluated


@pytest.fixture
def url(tmp_path):
    return sqlite_url(tmp_path / 'study.sqlite3')


def reopen(study, **options):
    """What a process sees that starts after this one was killed: its lock is gone, nothing else was tidied."""
    study.close()
    return SparsityStudy(study.space, study.cost, study.budget, storage=study.storage_url, resume=True, **options)


class TestSearching:
    def test_evaluates_each_setting_once_and_none_over_budget(self, space, cost):
        study = SparsityStudy(space, cost, Budget(0.6), trials=10)
        evaluated = run(study)
        assert len(evaluated) == len(set(evaluated)) == 10
        assert all(s in space and linear_cost(s) <= 0.6 * DENSE for s in evaluated)
        assert study.outcome().over_budget > 0
        assert study.stopped == 'all 10 evaluations are made'

    def test_uniform_settings_within_the_budget_come_first(self, space, cost):
        study = SparsityStudy(space, cost, Budget(0.7), trials=5)
        evaluated = run(study)
        assert evaluated[:2] == [(0.5,) * 3, (0.8,) * 3]
        assert [e.sparsity for e in study.outcome().uniform] == evaluated[:2]

    @pytest.mark.parametrize('model', [ExactCost, NoisyCost])
    def test_finds_the_best_setting_when_it_may_try_all(self, space, model):
        study = SparsityStudy(space, model(), Budget(0.6), trials=1000)
        evaluated = run(study)
        feasible = [s for s in space if linear_cost(s) <= 0.6 * DENSE]
        assert set(evaluated) == set(feasible)
        assert study.outcome().best.sparsity == optimum(space, 0.6 * DENSE)
        assert 'left' in study.stopped

    def test_without_a_budget_everything_is_feasible(self, space, cost):
        study = SparsityStudy(space, cost, trials=1000)
        assert len(run(study)) == len(space)
        outcome = study.outcome()
        assert outcome.over_budget == 0
        costs = [e.cost for e in outcome.front]
        accuracies = [e.accuracy for e in outcome.front]
        assert costs == sorted(costs) and accuracies == sorted(accuracies)

    def test_beats_random_sampling_and_uniform_settings(self):
        layout = SparsityLayout(tuple('abcdef'), (1, 1, 3, 1))
        space = SparsitySpace(layout)
        harm = (12.0, 3.0, 6.0, 2.0, 1.0, 9.0)

        class Cost(ExactCost):
            def calibrate(self, state=None):
                return {'dense': self.cost((0.0,) * 6), 'least': self.cost((0.8,) * 6)}

            def cost(self, sparsity):
                return 1 + sum(w * (1 - s) for w, s in zip((5, 4, 2, 2, 2, 1), sparsity))

            estimate = cost

        def evaluate(sparsity):
            return -sum(h * s**2 for h, s in zip(harm, sparsity))

        limit = 0.6 * 17
        found, drawn = [], []
        for seed in range(5):
            study = SparsityStudy(space, Cost(), Budget(0.6), trials=40, seed=seed)
            while (candidate := study.ask()) is not None:
                study.tell(candidate, evaluate(candidate.sparsity))
            outcome = study.outcome()
            found.append(outcome.best.accuracy)
            assert outcome.best.accuracy > max(e.accuracy for e in outcome.uniform)
            rng = random.Random(seed)
            sampled = (space.sample(rng) for _ in range(10_000))
            feasible = itertools.islice((s for s in sampled if Cost().cost(s) <= limit), 40)
            drawn.append(max(map(evaluate, feasible)))
        assert sum(found) > sum(drawn)

    def test_lower_is_better_is_told_by_the_name(self, space, cost):
        study = SparsityStudy(space, cost, Budget(0.6), trials=8, metric='val_loss')
        losses = {}
        while (candidate := study.ask()) is not None:
            losses[candidate.sparsity] = 100 - accuracy(candidate.sparsity)
            study.tell(candidate, {'val_loss': losses[candidate.sparsity], 'mIoU': 1.0})
        assert study.outcome().best.accuracy == min(losses.values())

    def test_same_seed_same_search_whatever_the_process(self, space, cost, url):
        whole = run(SparsityStudy(space, cost, Budget(0.6), trials=12, seed=3))
        other = run(SparsityStudy(space, cost, Budget(0.6), trials=12, seed=4))
        first = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=12, seed=3)
        parts = run(first, stop_after=7)
        parts += run(reopen(first, trials=12, seed=3))
        assert parts == whole
        assert other != whole


class TestNoisyCost:
    def test_no_setting_is_measured_twice(self, space, noisy_cost, url):
        study = SparsityStudy(space, noisy_cost, Budget(0.6), storage=url, trials=8)
        run(study, stop_after=4)
        run(reopen(study, trials=20), stop_after=8)
        assert len(noisy_cost.measured) == len(set(noisy_cost.measured))
        assert noisy_cost.calibrated == 1

    def test_less_sparse_than_a_measured_one_over_budget_is_not_measured(self, space, noisy_cost):
        study = SparsityStudy(space, noisy_cost, Budget(0.6), trials=1000)
        run(study)
        over = [s for s in noisy_cost.measured if linear_cost(s) > 0.6 * DENSE * 1.02]
        drawn = [s for s in over if s not in space.uniform()]  # the uniform ones are seeds, measured in any case
        assert drawn
        for later in drawn:
            earlier = over[: over.index(later)]
            assert not any(all(a <= b for a, b in zip(later, other)) for other in earlier)


class TestResuming:
    def test_interrupted_trial_is_evaluated_again_and_nothing_else(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=10)
        finished = run(study, stop_after=4)
        lost = study.ask()
        study = reopen(study, trials=10)
        evaluated = run(study)
        assert lost.sparsity in evaluated
        assert len(finished) + len(evaluated) == len({*finished, *evaluated}) == 10
        assert study.outcome().interrupted == 1

    def test_result_stored_before_the_kill_is_kept(self, space, cost, url, monkeypatch):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=10)
        candidate = study.ask()

        def killed(*args, **kwargs):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(study._study, 'tell', killed)
            study.tell(candidate, 41.5)
        study = reopen(study, trials=10)
        (kept,) = study.outcome().evaluations
        assert kept.sparsity == candidate.sparsity and kept.accuracy == 41.5
        assert candidate.sparsity not in run(study)

    def test_kill_between_enqueueing_again_and_failing_evaluates_once(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=10)
        lost = study.ask()
        study._study.enqueue_trial(dict(zip(space.layout.sites, lost.sparsity)))
        study = reopen(study, trials=10)
        assert run(study).count(lost.sparsity) == 1
        assert study.outcome().duplicates >= 1

    def test_kill_before_the_parameters_were_drawn(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=6)
        run(study, stop_after=3)
        study._study.ask()
        evaluated = run(reopen(study, trials=6))
        assert len(evaluated) == 3

    @pytest.mark.parametrize('moment', [1, 3, 7, 12, 19, 31, 38, 43])
    def test_kill_at_any_write_loses_no_result_and_repeats_none(self, space, cost, url, moment, monkeypatch):
        """The write to the storage with this number is never made, nor any after it."""
        told = []

        class Killed(BaseException):
            pass

        writes = itertools.count(1)

        def guard(method):
            def call(self, *args, **kwargs):
                if next(writes) == moment:
                    raise Killed
                return method(self, *args, **kwargs)

            return call

        storage = optuna.storages.RDBStorage
        names = ('create_new_study', 'create_new_trial', 'set_trial_param', 'set_trial_state_values')
        names += ('set_study_user_attr', 'set_trial_user_attr', 'set_trial_system_attr', 'set_study_system_attr')

        def search():
            study = None
            try:
                study = SparsityStudy(space, cost, Budget(0.7), storage=url, trials=5, resume=True, seed=1)
                while (candidate := study.ask()) is not None:
                    study.tell(candidate, accuracy(candidate.sparsity))
                    told.append(candidate.sparsity)
                return study.outcome()
            finally:
                if study is not None:
                    study.close()

        with monkeypatch.context() as patch:
            for name in names:
                patch.setattr(storage, name, guard(getattr(storage, name)))
            with pytest.raises(Killed):
                search()
            outcome = search()
        evaluated = [e.sparsity for e in outcome.evaluations]
        assert len(evaluated) == len(set(evaluated)) == 5
        assert len(told) == len(set(told)) and set(told) <= set(evaluated)

    def test_more_trials_go_on_where_fewer_ended(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=4)
        first = run(study)
        second = run(reopen(study, trials=9))
        assert len(first) == 4 and len(second) == 5 and not set(first) & set(second)

    def test_released_candidate_is_the_next_one(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.9), storage=url, trials=20)
        run(study, stop_after=5)
        candidate = study.ask()
        study.release(candidate)
        assert reopen(study, trials=20).ask().sparsity == candidate.sparsity

    def test_late_result_of_a_trial_given_up_is_kept(self, space, cost):
        study = SparsityStudy(space, cost, Budget(0.6), trials=10)
        candidate = study.ask()
        study._study.tell(candidate.number, state=optuna.trial.TrialState.FAIL)
        study.tell(candidate, 42.0)
        (late,) = study.outcome().evaluations
        assert (late.sparsity, late.accuracy) == (candidate.sparsity, 42.0)
        assert candidate.sparsity not in run(study)

    def test_results_survive_as_they_were_told(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=3)
        candidate = study.ask()
        study.tell(candidate, {'aAcc': 90.0, 'mIoU': 51.25}, seconds=2.5)
        (kept,) = reopen(study).outcome().evaluations
        assert kept.accuracy == 51.25 and kept.metrics == {'aAcc': 90.0, 'mIoU': 51.25} and kept.seconds == 2.5
        assert kept.cost == linear_cost(candidate.sparsity) and kept.feasible


class TestRefusals:
    def test_existing_study_without_resume(self, space, cost, url):
        run(SparsityStudy(space, cost, Budget(0.6), storage=url, trials=3))
        with pytest.raises(ValueError, match='in use by another search'):
            SparsityStudy(space, cost, Budget(0.6), storage=url, trials=3)

    def test_finished_study_is_never_overwritten(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=3)
        run(study)
        study.close()
        with pytest.raises(ValueError, match=r'holds a study .* with 3 evaluations\. Give --resume'):
            SparsityStudy(space, cost, Budget(0.6), storage=url, trials=3)
        assert len(reopen(study).outcome().evaluations) == 3

    @pytest.mark.parametrize(
        ('change', 'message'),
        [
            (dict(budget=Budget(0.5)), r'budget\.value is 0\.6 in the study and 0\.5 now'),
            (dict(cost=ExactCost((32, 32))), r'cost\.shape is \[64, 64\] in the study and \[32, 32\] now'),
            (dict(fingerprint={'data': {'images': 8}}), r'data\.images is 4 in the study and 8 now'),
            (dict(metric='mIoU'), r"metric\.name is None in the study and 'mIoU' now"),
        ],
    )
    def test_study_of_another_configuration(self, space, url, change, message):
        options = dict(cost=ExactCost(), budget=Budget(0.6), fingerprint={'data': {'images': 4}})
        study = SparsityStudy(space, storage=url, trials=3, **options)
        run(study)
        study.close()
        with pytest.raises(ValueError, match=message):
            SparsityStudy(space, storage=url, trials=3, resume=True, **{**options, **change})
        assert len(SparsityStudy(space, storage=url, resume=True, **options).outcome().evaluations) == 3

    def test_study_without_results_gives_way(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url)
        study.ask()
        study.close()
        study = SparsityStudy(space, cost, Budget(0.7), storage=url, trials=2)
        assert len(run(study)) == 2

    def test_budget_below_the_least_cost_leaves_nothing_behind(self, space, cost, url):
        with pytest.raises(ValueError, match=r'cannot be reached.*least \d|sparsest setting costs 2\.8 MACs'):
            SparsityStudy(space, cost, Budget(0.2), storage=url)
        assert run(SparsityStudy(space, cost, Budget(0.6), storage=url, trials=2))

    def test_metric_that_the_evaluator_does_not_give(self, space, cost):
        study = SparsityStudy(space, cost, Budget(0.6), metric='mAP')
        with pytest.raises(ValueError, match=r"metric 'mAP' is not among what the evaluator gives: mIoU, aAcc"):
            study.tell(study.ask(), {'mIoU': 1.0, 'aAcc': 2.0})

    def test_lower_is_better_metric_must_be_named(self, space, cost):
        study = SparsityStudy(space, cost, Budget(0.6))
        with pytest.raises(ValueError, match='lower-is-better'):
            study.tell(study.ask(), {'loss': 1.0})

    def test_trials_below_one(self, space, cost):
        with pytest.raises(ValueError, match='trials must be at least 1, got 0'):
            SparsityStudy(space, cost, trials=0)


class TestFailures:
    def test_failed_setting_is_not_proposed_again(self, space, cost):
        study = SparsityStudy(space, cost, Budget(0.6), trials=1000)
        broken = study.ask()
        study.fail(broken, 'out of memory')
        assert broken.sparsity not in run(study)
        assert study.outcome().failed == (broken.number,)

    def test_nan_is_a_failure(self, space, cost):
        study = SparsityStudy(space, cost, Budget(0.6), trials=3)
        assert study.tell(study.ask(), {'mIoU': 50.0}) is not None
        assert study.tell(study.ask(), {'mIoU': math.nan}) is None
        assert len(study.outcome().failed) == 1


class TestDenseReference:
    def test_is_wanted_where_it_is_no_candidate(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=4)
        assert study.wants_dense
        study.tell_dense({'mIoU': 60.0}, seconds=1.0)
        run(study)
        study = reopen(study)
        assert not study.wants_dense
        outcome = study.outcome()
        assert outcome.dense.accuracy == 60.0 and outcome.dense.cost == DENSE and not outcome.dense.feasible
        assert len(outcome.evaluations) == 4 and outcome.metric == 'mIoU'

    def test_is_a_candidate_where_the_budget_allows_it(self, space, cost):
        study = SparsityStudy(space, cost, Budget(1.0), trials=4)
        assert not study.wants_dense
        run(study)
        assert study.outcome().dense.accuracy == accuracy((0.0,) * 3)


def test_optuna_sees_constraint_directions_and_site_names(space, cost, url):
    study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=6)
    run(study)
    loaded = optuna.load_study(study_name='sparsity', storage=url)
    assert [d.name for d in loaded.directions] == ['MAXIMIZE', 'MINIMIZE']
    pruned = [t for t in loaded.trials if t.state.name == 'PRUNED']
    assert pruned and all(t.constraints['budget'] > 0 for t in pruned)
    complete = [t for t in loaded.trials if t.state.name == 'COMPLETE']
    assert all(t.constraints['budget'] <= 0 and list(t.params) == list(space.layout.sites) for t in complete)
    best = {tuple(t.params.values()) for t in loaded.best_trials}
    assert best == {e.sparsity for e in study.outcome().front}
