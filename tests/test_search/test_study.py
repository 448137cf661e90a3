import itertools
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from search_problem import LinearCost, accuracy, linear_cost, optimum

from sparsevit_mm.search import Budget, SparsityStudy
from sparsevit_mm.search.storage import sqlite_url
from sparsevit_mm.sparsity import SparsityLayout, SparsitySpace

DENSE = linear_cost((0.0,) * 3)


def run(study, stop_after=None):
    """Evaluates until the study ends or so many candidates are evaluated; what was, without the dense reference."""
    evaluated = []
    while len(evaluated) != stop_after and (candidate := study.ask()) is not None:
        study.tell(candidate, accuracy(candidate.sparsity))
        if candidate.cost <= study.limit:
            evaluated.append(candidate.sparsity)
    return evaluated


def ask_feasible(study):
    """The next candidate, after the dense reference."""
    candidate = study.ask()
    if candidate.cost > study.limit:
        study.tell(candidate, accuracy(candidate.sparsity))
        candidate = study.ask()
    return candidate


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
        assert study.outcome().feasible_size == sum(linear_cost(s) <= 0.6 * DENSE for s in space)
        assert study.stopped == 'all 10 evaluations are made'

    def test_a_setting_that_costs_just_the_budget_is_within_it(self, cost):
        """Whatever rounding does to sums of tenths: they are compared with sums of integers."""
        space = SparsitySpace(SparsityLayout(('a', 'b', 'c'), (2, 1)), tuple(i / 10 for i in range(10)))
        exact = [
            10 + sum(weight * (10 - round(10 * value)) for weight, value in zip((4, 2, 3), vector)) for vector in space
        ]
        for percent in range(30, 100, 5):
            study = SparsityStudy(space, cost, Budget(percent / 100), trials=12)
            assert study.feasible_size == sum(cost <= percent for cost in exact)
            run(study)
            assert all('reason' not in trial.user_attrs for trial in study._study.trials), 'none is refused'

    def test_nothing_is_left_running_where_an_uncounted_space_is_used_up(self):
        class Product(LinearCost):
            def calibrate(self, state=None):
                return {'dense': 1.0}

            def cost(self, sparsity):
                return math.prod(1 - value for value in sparsity)

        choices = tuple(i / 28 for i in range(28))
        space = SparsitySpace(SparsityLayout(tuple('abcd'), (4,)), choices)
        budget = Budget(6.1 * Product().cost((choices[-1],) * 4))
        study = SparsityStudy(space, Product(), budget, trials=100)
        evaluated = []
        while (candidate := study.ask()) is not None:
            study.tell(candidate, -sum(candidate.sparsity))
            evaluated.append(candidate.sparsity)
        assert study.feasible_size is None and 'left' in study.stopped
        assert len(evaluated) == len(set(evaluated)) == 1 + 8  # with the dense one
        assert not study._study.get_trials(states=[optuna.trial.TrialState.RUNNING])

    def test_uniform_settings_within_the_budget_come_first(self, space, cost):
        study = SparsityStudy(space, cost, Budget(0.7), trials=5)
        evaluated = run(study)
        assert evaluated[:2] == [(0.5,) * 3, (0.8,) * 3]
        assert [e.sparsity for e in study.outcome().uniform] == evaluated[:2]

    def test_finds_the_best_setting_when_it_may_try_all(self, space, cost):
        study = SparsityStudy(space, cost, Budget(0.6), trials=1000)
        evaluated = run(study)
        feasible = [s for s in space if linear_cost(s) <= 0.6 * DENSE]
        assert set(evaluated) == set(feasible)
        assert study.outcome().best.sparsity == optimum(space, 0.6 * DENSE)
        assert 'left' in study.stopped

    def test_without_a_budget_everything_is_feasible(self, space, cost):
        study = SparsityStudy(space, cost, trials=1000)
        assert len(run(study)) == len(space)
        outcome = study.outcome()
        costs = [e.cost for e in outcome.front]
        accuracies = [e.accuracy for e in outcome.front]
        assert costs == sorted(costs) and accuracies == sorted(accuracies)

    def test_beats_random_sampling_and_uniform_settings(self):
        layout = SparsityLayout(tuple('abcdef'), (1, 1, 3, 1))
        space = SparsitySpace(layout)
        harm = (12.0, 3.0, 6.0, 2.0, 1.0, 9.0)

        class Cost(LinearCost):
            def calibrate(self, state=None):
                return {'dense': self.cost((0.0,) * 6)}

            def cost(self, sparsity):
                return 1 + sum(w * (1 - s) for w, s in zip((5, 4, 2, 2, 2, 1), sparsity))

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
        del losses[(0.0,) * 3]
        assert study.outcome().best.accuracy == min(losses.values())

    def test_same_seed_same_search_whatever_the_process(self, space, cost, url):
        whole = run(SparsityStudy(space, cost, Budget(0.6), trials=12, seed=3))
        other = run(SparsityStudy(space, cost, Budget(0.6), trials=12, seed=4))
        first = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=12, seed=3)
        parts = run(first, stop_after=7)
        parts += run(reopen(first, trials=12, seed=3))
        assert parts == whole
        assert other != whole


class TestResuming:
    def test_interrupted_trial_is_evaluated_again_and_nothing_else(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=10)
        finished = run(study, stop_after=4)
        lost = ask_feasible(study)
        study = reopen(study, trials=10)
        evaluated = run(study)
        assert lost.sparsity in evaluated
        assert len(finished) + len(evaluated) == len({*finished, *evaluated}) == 10
        assert study.outcome().interrupted == 1

    def test_result_stored_before_the_kill_is_kept(self, space, cost, url, monkeypatch):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=10)
        candidate = ask_feasible(study)

        def killed(*args, **kwargs):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(study._study, 'tell', killed)
            study.tell(candidate, 41.5)
        study = reopen(study, trials=10)
        (kept,) = study.outcome().evaluations
        assert kept.sparsity == candidate.sparsity and kept.accuracy == 41.5
        assert candidate.sparsity not in run(study)

    def test_what_a_person_queues_is_evaluated_once_and_within_the_budget(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=10)
        queued, dense = (0.5, 0.8, 0.2), (0.2, 0.2, 0.2)
        for vector in (queued, queued, dense):
            study._study.enqueue_trial(dict(zip(space.layout.sites, vector)))
        evaluated = run(study)
        assert evaluated.count(queued) == 1 and dense not in evaluated and len(evaluated) == 10
        assert study.outcome().duplicates == 1

    def test_setting_that_its_process_never_survives_is_given_up(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=10)
        deadly = ask_feasible(study).sparsity
        for _ in range(2):
            study = reopen(study, trials=10)
            assert study.ask().sparsity == deadly, 'it is taken up again'
        evaluated = run(reopen(study, trials=10))
        assert deadly not in evaluated and len(evaluated) == 10

    def test_kill_before_the_parameters_were_drawn(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=6)
        run(study, stop_after=3)
        with pytest.warns(UserWarning, match='Heartbeat'):
            study._study.ask()  # a trial without anything that says what it is
        evaluated = run(reopen(study, trials=6))
        assert len(evaluated) == 3

    @pytest.mark.parametrize('moment', [1, 3, 7, 12, 19, 24, 29, 33])
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
        assert len(told) == len(set(told)) and set(told) <= {*evaluated, outcome.dense.sparsity}

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
        candidate = ask_feasible(study)
        study._study.tell(candidate.number, state=optuna.trial.TrialState.FAIL)
        study.tell(candidate, 42.0)
        (late,) = study.outcome().evaluations
        assert (late.sparsity, late.accuracy) == (candidate.sparsity, 42.0)
        assert candidate.sparsity not in run(study)

    def test_results_survive_as_they_were_told(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=3)
        candidate = ask_feasible(study)
        study.tell(candidate, {'aAcc': 90.0, 'mIoU': 51.25}, seconds=2.5)
        (kept,) = reopen(study).outcome().evaluations
        assert kept.accuracy == 51.25 and kept.metrics == {'aAcc': 90.0, 'mIoU': 51.25} and kept.seconds == 2.5
        assert kept.cost == linear_cost(candidate.sparsity) and kept.feasible


class TestRefusals:
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
            (dict(cost=LinearCost((32, 32))), r'cost\.shape is \[64, 64\] in the study and \[32, 32\] now'),
            (dict(fingerprint={'data': {'images': 8}}), r'data\.images is 4 in the study and 8 now'),
            (dict(metric='mIoU'), r"metric\.name is None in the study and 'mIoU' now"),
        ],
    )
    def test_study_of_another_configuration(self, space, url, change, message):
        options = dict(cost=LinearCost(), budget=Budget(0.6), fingerprint={'data': {'images': 4}})
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
        broken = ask_feasible(study)
        study.fail(broken, 'out of memory')
        assert broken.sparsity not in run(study)
        assert study.outcome().failed == (broken.number,)

    def test_nan_is_a_failure(self, space, cost):
        study = SparsityStudy(space, cost, Budget(0.6), trials=3)
        assert study.tell(study.ask(), {'mIoU': 50.0}) is not None
        assert study.tell(study.ask(), {'mIoU': math.nan}) is None
        assert len(study.outcome().failed) == 1


class TestDenseReference:
    def test_comes_first_and_is_no_candidate(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=4)
        candidate = study.ask()
        assert candidate.sparsity == (0.0,) * 3
        study.tell(candidate, {'mIoU': 60.0}, seconds=1.0)
        run(study)
        outcome = reopen(study).outcome()
        assert outcome.dense.accuracy == 60.0 and outcome.dense.cost == DENSE and not outcome.dense.feasible
        assert len(outcome.evaluations) == 4 and outcome.metric == 'mIoU'

    def test_is_evaluated_where_its_sparsity_is_no_choice(self, cost):
        space = SparsitySpace(SparsityLayout(('a', 'b', 'c'), (2, 1)), (0.5, 0.8))
        study = SparsityStudy(space, cost, Budget(0.9), trials=3)
        assert not any(study.ask().sparsity)

    def test_is_a_candidate_where_the_budget_allows_it(self, space, cost):
        study = SparsityStudy(space, cost, Budget(1.0), trials=4)
        assert (0.0,) * 3 in run(study)
        assert study.outcome().dense.accuracy == accuracy((0.0,) * 3)

    def test_is_taken_up_again_where_it_was_lost(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=4)
        study.ask()
        study = reopen(study, trials=4)
        assert len(run(study)) == 4 and study.outcome().dense.accuracy == accuracy((0.0,) * 3)


class TestRungs:
    """Accuracy on part of the images is that on all of them, but for a constant."""

    @staticmethod
    def search(study):
        images = {}
        while (candidate := study.ask()) is not None:
            true = accuracy(candidate.sparsity)
            for rung in study.rungs[:-1]:
                images[candidate.sparsity] = rung
                if study.report(candidate, rung, true - 10 / rung):
                    break
            else:
                images[candidate.sparsity] = study.rungs[-1]
                study.tell(candidate, true)
        return images

    def test_finds_the_same_best_with_less_work(self, space, cost):
        options = dict(budget=Budget(0.7), trials=16)
        full = SparsityStudy(space, cost, **options)
        run(full)
        study = SparsityStudy(space, cost, rungs=(5, 10, 20), **options)
        images = self.search(study)
        outcome = study.outcome()
        assert outcome.best.sparsity == full.outcome().best.sparsity
        assert len(images) == 17 and sum(images.values()) < 0.8 * 17 * 20
        candidates = [n for vector, n in images.items() if any(vector)]
        assert outcome.stopped_early == sum(n < 20 for n in candidates) > 3
        assert outcome.saved == pytest.approx(1 - sum(candidates) / (16 * 20))

    def test_what_is_compared_with_is_never_given_up(self, space, cost):
        study = SparsityStudy(space, cost, Budget(0.7), trials=12, rungs=(5, 20))
        images = self.search(study)
        assert images[(0.0,) * 3] == images[(0.5,) * 3] == images[(0.8,) * 3] == 20

    def test_given_up_candidates_are_not_proposed_again(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.7), trials=8, rungs=(5, 20), storage=url)
        images = self.search(study)
        again = self.search(reopen(study, trials=14, rungs=(5, 20)))
        assert not set(images) & set(again) and len(again) == 6

    def test_killed_between_two_rungs(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.7), trials=6, rungs=(5, 20), storage=url)
        candidate = ask_feasible(study)
        assert not study.report(candidate, 5, 50.0)
        images = self.search(reopen(study, trials=6, rungs=(5, 20)))
        assert images[candidate.sparsity] == 20

    def test_other_rungs_are_another_study(self, space, cost, url):
        study = SparsityStudy(space, cost, Budget(0.7), trials=4, rungs=(5, 20), storage=url)
        self.search(study)
        with pytest.raises(ValueError, match=r'rungs is \[5, 20\] in the study and \[10, 20\] now'):
            reopen(study, rungs=(10, 20))

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            (dict(rungs=(5, 20)), 'rungs need a budget'),
            (dict(budget=Budget(0.7), rungs=(20, 5)), r'ascending numbers of images, two at least, got \(20, 5\)'),
            (dict(budget=Budget(0.7), heartbeat=60, grace=60), 'grace twice as long, got 60 and 60'),
        ],
    )
    def test_bad_arguments(self, space, cost, options, message):
        with pytest.raises(ValueError, match=message):
            SparsityStudy(space, cost, **options)

    def test_images_that_are_no_rung(self, space, cost):
        study = SparsityStudy(space, cost, Budget(0.7), rungs=(5, 20))
        with pytest.raises(ValueError, match=r'images is 7, but candidates are compared after .*: 5'):
            study.report(study.ask(), 7, 1.0)


class TestWorkers:
    """Two studies on one storage, as two processes have them."""

    @pytest.fixture
    def two(self, space, cost, url):
        options = dict(storage=url, trials=8, heartbeat=1, grace=2)
        return [SparsityStudy(space, cost, Budget(0.6), **options) for _ in range(2)]

    def test_share_the_work(self, two):
        with ThreadPoolExecutor(2) as threads:
            evaluated = [vector for vectors in threads.map(run, two) for vector in vectors]
        assert len(evaluated) == len(set(evaluated)) == 8
        assert two[0].outcome() == two[1].outcome()

    def test_calibrates_once(self, two, cost):
        assert cost.calibrated == 1

    def test_what_a_dead_one_was_at_is_taken_up(self, two):
        one, other = two
        lost = ask_feasible(one)
        one._ledger.close()
        evaluated = run(other)
        assert lost.sparsity in evaluated and len(evaluated) == 8
        assert other.outcome().interrupted == 1

    def test_late_result_counts_and_the_repetition_does_not(self, two):
        one, other = two
        slow = ask_feasible(one)
        one._ledger.close()
        time.sleep(3.5)
        again = other.ask()
        assert again.sparsity == slow.sparsity
        one.tell(slow, 41.0)
        other.tell(again, 42.0)
        (kept,) = (e for e in other.outcome().evaluations if e.sparsity == slow.sparsity)
        assert kept.accuracy == 41.0 and other.outcome().duplicates == 1


def test_optuna_sees_constraint_direction_and_site_names(space, cost, url):
    study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=6)
    run(study)
    loaded = optuna.load_study(study_name='sparsity', storage=url)
    assert [d.name for d in loaded.directions] == ['MAXIMIZE']
    complete = [t for t in loaded.trials if t.state.name == 'COMPLETE']
    assert all(list(t.params) == list(space.layout.sites) for t in complete)
    assert [t.number for t in complete if t.constraints['budget'] > 0] == [0], 'the dense reference'
    assert tuple(loaded.best_trial.params.values()) == study.outcome().best.sparsity


def test_optuna_sees_the_front(space, cost, url):
    study = SparsityStudy(space, cost, storage=url, trials=12)
    run(study)
    loaded = optuna.load_study(study_name='sparsity', storage=url)
    assert [d.name for d in loaded.directions] == ['MAXIMIZE', 'MINIMIZE']
    assert {tuple(t.params.values()) for t in loaded.best_trials} == {e.sparsity for e in study.outcome().front}
