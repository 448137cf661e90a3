"""The search as ask and tell: what to evaluate next, what came out, and all of it kept in a storage."""

import math
import os
import socket
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..sparsity import SparsitySpace
from .budget import Budget, CostModel
from .metrics import higher_is_better as grows_with_quality
from .metrics import pick_metric
from .opening import find_study, run_again, settle_lost_trials
from .results import Candidate, Evaluation, Outcome
from .storage import StudyLock, jsonable, open_storage
from .trials import KNOWN, OVER_BUDGET, Counts, Knowledge, evaluation_of, vector_of

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

__all__ = ['SparsityStudy']

_IN_A_ROW = 200  # proposals over budget, one after the other, after which a noisy cost model gives up


class SparsityStudy:
    """Searches the sparsity of every site for accuracy against cost, under a budget.

    The caller owns the loop and the evaluation::

        study = SparsityStudy(space, cost, Budget(0.6), storage='sqlite:///study.sqlite3', trials=100)
        while (candidate := study.ask()) is not None:
            study.tell(candidate, evaluate(candidate.sparsity))
        print(study.outcome().best)

    Every result is in the storage before ``tell`` returns. A process that is killed at any point loses at most the
    evaluation it was at; opened again with ``resume`` the study goes on with that one. No setting is evaluated
    twice, and one over budget never.

    Args:
        space: The allowed settings.
        cost: What a setting costs.
        budget: The most it may cost, None for the whole front.
        storage: URL of a database, None to keep the study in memory.
        resume: Whether to go on where a study is already in the storage; without it one that holds results is
            an error, and nothing is ever overwritten.
        trials: Number of evaluations in all, earlier ones included; None for no end.
        seed: Seed of the search.
        metric: Name of the metric among what the evaluator gives, None for its primary one.
        higher_is_better: Direction of the metric, None to tell it by its name.
        population: Evaluations in a generation, None to choose by the number of trials.
        fingerprint: JSON data that says what is searched (model, data, checkpoint). A study with another
            fingerprint is not resumed.
        name: Name of the study in the storage, which may hold several.

    Raises:
        ValueError: If the budget cannot be reached, the storage cannot be used, or it holds another study.
    """

    def __init__(
        self,
        space: SparsitySpace,
        cost: CostModel,
        budget: Budget | None = None,
        *,
        storage: str | None = None,
        resume: bool = False,
        trials: int | None = None,
        seed: int = 0,
        metric: str | None = None,
        higher_is_better: bool | None = None,
        population: int | None = None,
        fingerprint: Mapping[str, Any] | None = None,
        name: str = 'sparsity',
    ) -> None:
        if trials is not None and trials < 1:
            raise ValueError(f'trials must be at least 1, got {trials}.')
        if higher_is_better is None:
            higher_is_better = metric is None or grows_with_quality(metric)
        self.space, self.cost, self.budget, self.trials = space, cost, budget, trials
        self.higher_is_better = higher_is_better
        self.name, self.storage_url = name, storage
        self.stopped: str | None = None
        self._wanted_metric = metric
        self._running: dict[int, Trial] = {}
        self._knowledge = Knowledge()
        self._exact_costs: dict[tuple[float, ...], float] = {}
        self._identity = {
            'sites': list(space.layout.sites),
            'groups': list(space.layout.groups),
            'choices': list(space.choices),
            'cost': {'name': cost.name, **cost.conditions()},
            'budget': asdict(budget) if budget else None,
            'metric': {'name': metric, 'higher_is_better': higher_is_better},
            'seed': seed,
            **jsonable(fingerprint or {}),
        }
        population = population or (20 if trials is None else min(50, max(6, trials // 10)))
        self._lock = StudyLock(storage)
        try:
            self._study = self._open(resume, seed, population)
        except BaseException:
            self._lock.release()
            raise

    # Opening

    def _open(self, resume: bool, seed: int, population: int) -> 'Study':
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = open_storage(self.storage_url)
        study = find_study(
            storage, self.name, self._identity, resume=resume, alone=self._lock.held, shown=str(self.storage_url)
        )
        if study is not None:
            calibration = self.cost.calibrate(study.user_attrs['calibration'])
            self._take(study, calibration, self._limit(calibration), seed, study.user_attrs['population'])
            settle_lost_trials(study, self.space.layout.sites)
            return study
        calibration = self.cost.calibrate()
        limit = self._limit(calibration)
        study = optuna.create_study(
            study_name=self.name,
            storage=storage,
            directions=['maximize' if self.higher_is_better else 'minimize', 'minimize'],
        )
        self._take(study, calibration, limit, seed, population)
        study.set_user_attr('fingerprint', self._identity)
        study.set_user_attr('calibration', calibration)
        study.set_user_attr('population', population)
        for sparsity in self.space.uniform():
            study.enqueue_trial(self._params(sparsity))
        study.set_user_attr('ready', True)
        return study

    def _limit(self, calibration: Mapping[str, Any]) -> float:
        if self.budget is None:
            return math.inf
        return self.budget.check(calibration['dense'], calibration['least'], self.cost.unit)

    def _take(self, study: 'Study', calibration: dict, limit: float, seed: int, population: int) -> None:
        from .sampler import SparsitySampler, distributions_of

        self.calibration, self.limit = calibration, limit
        self._distributions = distributions_of(self.space)
        # Noise puts about half of the settings at the very edge over budget; aim below it by as much.
        aim = limit * (1 - self.cost.tolerance)
        study.sampler = SparsitySampler(
            self.space, self._objection, self._guess, limit=aim, population_size=population, seed=seed
        )

    # Asking

    def ask(self) -> Candidate | None:
        """The next setting to evaluate: within the budget, and never evaluated before.

        Returns:
            None when all trials are made or nothing is left to try; ``stopped`` then says why.
        """
        from optuna.trial import TrialState

        in_a_row = 0
        while True:
            if self.trials is not None and self._begun() >= self.trials:
                self.stopped = f'all {self.trials} evaluations are made'
                return None
            knowledge = self._learn()
            trial, sparsity = self._propose()
            if sparsity is None:
                self.stopped = 'no setting within the budget is left that was not evaluated'
                return None
            if sparsity in knowledge.seen:
                trial.set_user_attr('duplicate_of', knowledge.seen[sparsity])
                self._study.tell(trial, state=TrialState.PRUNED)
                continue
            cost = self._cost(sparsity)
            trial.set_user_attr('cost', cost)
            if math.isfinite(self.limit):
                trial.set_constraint('budget', cost - self.limit)
            if cost <= self.limit:
                self._running[trial.number] = trial
                return Candidate(trial.number, sparsity, cost)
            self._study.tell(trial, state=TrialState.PRUNED)
            in_a_row += 1
            if in_a_row == _IN_A_ROW:
                self.stopped = f'{in_a_row} proposals in a row were over budget'
                return None

    def _propose(self) -> tuple['Trial', tuple[float, ...] | None]:
        """A trial of Optuna's and its setting, None where nothing is left to propose."""
        from optuna.trial import TrialState

        sampler = self._study.sampler
        trial = self._study.ask(self._distributions)
        trial.set_user_attr('worker', f'{socket.gethostname()}:{os.getpid()}')
        if sampler.rejected and not sampler.exhausted:
            trial.set_user_attr('rejected', dict(sampler.rejected))
        if sampler.exhausted:
            self._study.tell(trial, state=TrialState.PRUNED)
            return trial, None
        return trial, vector_of(trial, self.space.layout.sites)

    def _begun(self) -> int:
        from optuna.trial import TrialState

        return len(self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.RUNNING]))

    def _learn(self) -> Knowledge:
        """Reads the trials anew: other workers may have added some."""
        self._knowledge = Knowledge.of(
            self._study.get_trials(deepcopy=False),
            self.space.layout.sites,
            surely_over=self.limit * (1 + self.cost.tolerance),
            estimate=None if self.cost.exact else self.cost.estimate,
        )
        return self._knowledge

    def _objection(self, sparsity: tuple[float, ...]) -> str | None:
        """Why a setting is not worth a trial: known already, or over budget without a measurement.

        A noisy cost is not asked for. But what is nowhere sparser than a setting that was measured over budget
        (beyond the uncertainty) does more work than that one, so it is over budget as well.
        """
        if sparsity in self._knowledge.seen:
            return KNOWN
        if math.isinf(self.limit):
            return None
        if self.cost.exact:
            return OVER_BUDGET if self._cost(sparsity) > self.limit else None
        return OVER_BUDGET if self._knowledge.does_more_than_one_over_budget(sparsity) else None

    def _cost(self, sparsity: tuple[float, ...]) -> float:
        if self.cost.exact:
            if sparsity not in self._exact_costs:
                self._exact_costs[sparsity] = self.cost.cost(sparsity)
            return self._exact_costs[sparsity]
        known = self._knowledge.costs.get(sparsity)
        return self.cost.cost(sparsity) if known is None else known

    def _guess(self, sparsity: tuple[float, ...]) -> float:
        """What a setting will probably cost, without a measurement.

        The model's estimate is corrected by what the latest measurements say about it.
        """
        if self.cost.exact:
            return self._cost(sparsity)
        return self.cost.estimate(sparsity) * self._knowledge.correction

    def _params(self, sparsity: tuple[float, ...]) -> dict[str, float]:
        return dict(zip(self.space.layout.sites, sparsity))

    # Telling

    def tell(self, candidate: Candidate, result: float | Mapping[str, Any], seconds: float = 0.0) -> Evaluation | None:
        """Stores what an evaluation gave.

        Args:
            candidate: What ``ask`` returned.
            result: The accuracy, or all the metrics that the evaluator gave.
            seconds: Wall time of the evaluation.

        Returns:
            The evaluation, None where the accuracy is not a number and the trial has failed for it.

        Raises:
            ValueError: If the metric searched for is not among the metrics.
        """
        from optuna.trial import TrialState

        accuracy, metrics = self._read(result)
        if math.isnan(accuracy):
            self.fail(candidate, f'{self.metric} is not a number')
            return None
        trial = self._running.pop(candidate.number)
        stored = {'accuracy': accuracy, 'metrics': metrics, 'seconds': seconds}
        state = self._study.get_trials(deepcopy=False)[candidate.number].state
        if state == TrialState.RUNNING:
            trial.set_user_attr('result', stored)
            self._study.tell(trial, [accuracy, candidate.cost])
        else:  # taken for dead and given up by another worker
            self._tell_late(candidate, stored)
        return Evaluation(candidate.number, candidate.sparsity, accuracy, candidate.cost, True, metrics, seconds)

    def _tell_late(self, candidate: Candidate, stored: dict[str, Any]) -> None:
        """Adds a result whose trial was ended meanwhile as a trial of its own, where no other has one."""
        import optuna

        complete = self._study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
        if any(vector_of(trial, self.space.layout.sites) == candidate.sparsity for trial in complete):
            return
        self._study.add_trial(
            optuna.trial.create_trial(
                values=[stored['accuracy'], candidate.cost],
                params=self._params(candidate.sparsity),
                distributions=self._distributions,
                user_attrs={'result': stored, 'cost': candidate.cost, 'late_result_of': candidate.number},
                constraints={'budget': candidate.cost - self.limit} if math.isfinite(self.limit) else None,
            )
        )

    def _read(self, result: float | Mapping[str, Any]) -> tuple[float, dict[str, float]]:
        if not isinstance(result, Mapping):
            return float(result), {}
        if self.metric is None:
            name = pick_metric(result, self._wanted_metric)
            if self._wanted_metric is None and not grows_with_quality(name) and self.higher_is_better:
                raise ValueError(
                    f'the first metric that the evaluator gives, {name}, is one of the lower-is-better kind. Name the '
                    f'metric to search by with --metric; there are {", ".join(result)}.'
                )
            self._study.set_user_attr('metric', name)
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # experimental in Optuna; only dashboards read it
                self._study.set_metric_names([name, self.cost.name])
        metrics = {key: float(value) for key, value in result.items() if isinstance(value, int | float)}
        return float(result[pick_metric(result, self.metric)]), metrics

    def fail(self, candidate: Candidate, reason: str) -> None:
        """Notes that an evaluation raised; its setting is not proposed again."""
        from optuna.trial import TrialState

        trial = self._running.pop(candidate.number)
        trial.set_user_attr('error', reason)
        self._study.tell(trial, state=TrialState.FAIL)

    def release(self, candidate: Candidate) -> None:
        """Gives a candidate back unevaluated, to be the first one when the search goes on."""
        run_again(self._study, self._study.get_trials(deepcopy=False)[candidate.number], self.space.layout.sites)
        del self._running[candidate.number]

    # The dense reference

    @property
    def metric(self) -> str | None:
        """Full name of the metric, None before the first result."""
        return self._study.user_attrs.get('metric')

    @property
    def wants_dense(self) -> bool:
        """Whether the dense setting is still to be evaluated for comparison, because it is no candidate itself."""
        dense = self._dense_vector()
        candidate = dense in self.space and self.calibration['dense'] <= self.limit
        return not candidate and 'dense' not in self._study.user_attrs

    def tell_dense(self, result: float | Mapping[str, Any], seconds: float = 0.0) -> None:
        """Stores what the dense setting gave; it is a reference and counts as no trial."""
        accuracy, metrics = self._read(result)
        self._study.set_user_attr('dense', {'accuracy': accuracy, 'metrics': metrics, 'seconds': seconds})

    def _dense_vector(self) -> tuple[float, ...]:
        return (0.0,) * len(self.space.layout.sites)

    # Reading

    def outcome(self) -> Outcome:
        """The study as it stands."""
        from optuna.trial import TrialState

        trials = self._study.get_trials(deepcopy=False)
        sites = self.space.layout.sites
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        evaluations = tuple(evaluation_of(trial, sites, self.limit) for trial in complete)
        stored = self._study.user_attrs.get('dense')
        dense = next((e for e in evaluations if not any(e.sparsity)), None)
        if stored:
            cost = self.calibration['dense']
            dense = Evaluation(-1, self._dense_vector(), cost=cost, feasible=cost <= self.limit, **stored)
        return Outcome(
            sites=sites,
            evaluations=evaluations,
            dense=dense,
            dense_cost=self.calibration['dense'],
            least_cost=self.calibration['least'],
            limit=self.limit,
            unit=self.cost.unit,
            metric=self.metric,
            higher_is_better=self.higher_is_better,
            space_size=len(self.space),
            trials=self.trials,
            **vars(Counts.of(trials)),
        )

    def close(self) -> None:
        """Lets another process at the study."""
        self._lock.release()
