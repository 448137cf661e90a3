"""The search as ask and tell: what to evaluate next, what came out, and all of it kept in a storage."""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..sparsity import SparsitySpace
from .agenda import OVER, Agenda
from .budget import Budget, CostModel
from .feasible import cost_space
from .fingerprint import jsonable
from .ledger import Ledger
from .metrics import first_metric, pick_metric
from .metrics import higher_is_better as grows_with_quality
from .opening import find_study
from .results import Candidate, Evaluation, Outcome
from .storage import Presence, open_storage
from .storage.database import shown, sqlite_path
from .storage.exclusion import Exclusion
from .trials import Counts, Knowledge, evaluation_of

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.storages import BaseStorage

__all__ = ['SparsityStudy']

_FORMAT = 2  # of what is in the storage
_HALVING = 2  # one in so many goes on from a rung to the next
_ROUNDING = 1e-9  # relative; a cost is the same in whatever order it is added up


class SparsityStudy:
    """Searches the sparsity of every site for accuracy against cost, under a budget.

    The caller owns the loop and the evaluation::

        study = SparsityStudy(space, cost, Budget(0.6), storage='sqlite:///study.sqlite3', trials=100)
        while (candidate := study.ask()) is not None:
            study.tell(candidate, evaluate(candidate.sparsity))
        print(study.outcome().best)

    Any number of processes may do so on one storage. Every result is in the storage before ``tell`` returns. A
    process that is killed at any point loses at most the evaluation it was at, and that one is taken up again: by
    another process after the grace period, or when the study is opened again. No setting is scored twice, and
    none over budget ever.

    With a budget accuracy is the only objective, and candidates may be given up after part of the images
    (``rungs`` and :meth:`report`). Without one cost is a second objective, and the whole front is searched.

    Args:
        space: The allowed settings.
        cost: What a setting costs.
        budget: The most it may cost, None for the whole front.
        storage: URL of a database, None to keep the study in memory.
        resume: Whether to go on with a study that has results and that nobody is at; without it that is an error.
            Nothing is ever overwritten.
        trials: Number of candidates in all, those of other processes and earlier ones included; None for no end.
        seed: Seed of the search.
        metric: Name of the metric among what the evaluator gives, None for its primary one.
        higher_is_better: Direction of the metric, None to tell it by its name.
        initial: Candidates that are spread over the space before what is known decides, None for two more than sites.
        rungs: Numbers of images, ascending, after which :meth:`report` may give a candidate up; the last one is all
            images. Empty where candidates are scored at once.
        fingerprint: JSON data that says what is searched (model, data, checkpoint). A study with another
            fingerprint is not resumed.
        name: Name of the study in the storage, which may hold several.
        heartbeat: Seconds between two signs of life of a process.
        grace: Seconds of silence after which what a process was at is taken up by another.
        patience: Seconds for which a storage that does not answer is tried again.
        on_wait: Called with a sentence where something has to be waited for.

    Raises:
        ValueError: If an argument is out of range, the budget cannot be reached, the storage cannot be used, or it
            holds another study.
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
        initial: int | None = None,
        rungs: Sequence[int] = (),
        fingerprint: Mapping[str, Any] | None = None,
        name: str = 'sparsity',
        heartbeat: int = 30,
        grace: int = 120,
        patience: float = 600.0,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        _check(trials, rungs, budget, heartbeat, grace)
        if higher_is_better is None:
            higher_is_better = metric is None or grows_with_quality(metric)
        self.space, self.cost, self.budget, self.trials = space, cost, budget, trials
        self.higher_is_better, self.rungs, self.seed = higher_is_better, tuple(rungs), seed
        self.name, self.storage_url = name, storage
        self.stopped: str | None = None
        self.others = 0
        self._wanted_metric, self._on_wait = metric, on_wait or (lambda text: None)
        self.pause = max(0.2, heartbeat / 4)
        self._initial = len(space.layout.sites) + 2 if initial is None else initial
        self._identity = {
            'format': _FORMAT,
            'sites': list(space.layout.sites),
            'groups': list(space.layout.groups),
            'choices': list(space.choices),
            'cost': {'name': cost.name, **cost.conditions()},
            'budget': asdict(budget) if budget else None,
            'metric': {'name': metric, 'higher_is_better': higher_is_better},
            'seed': seed,
            **({'rungs': list(rungs)} if rungs else {}),
            **jsonable(fingerprint or {}),
        }
        opened = open_storage(storage, heartbeat=heartbeat, grace=grace)
        self._ledger = Ledger(opened, storage, name, space, patience=patience, on_wait=self._on_wait)
        self._open(opened, resume)

    # Opening

    def _open(self, storage: 'BaseStorage', resume: bool) -> None:
        """Finds the study or sets it up; of several processes one does, while the others wait for it."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        setup = Exclusion(self.storage_url, self.name, 'setup')
        with setup.hold(lambda seconds: self._on_wait(f'another process sets the study up, {seconds:.0f} s so far')):
            self._presence = Presence(self.storage_url)
            sqlite = self.storage_url is not None and sqlite_path(self.storage_url) is not None
            try:
                with self._ledger.hold():
                    study = find_study(
                        storage,
                        self.name,
                        self._identity,
                        resume=resume,
                        alone=self._presence.alone,
                        accompanied=sqlite and not self._presence.alone,
                        shown=shown(self.storage_url),
                    )
                self._calibrate(study and study.user_attrs['calibration'])
                self._study = study or self._create(storage)
            except BaseException:
                self._presence.release()
                raise
        self._study.sampler, self._study.pruner = self._sampler, self._pruner()
        self._ledger.study = self._study
        with self._ledger.hold():
            self._ledger.learn()  # tells what was stored and never told

    def _calibrate(self, stored: dict | None) -> None:
        """Finds out what dense costs, or takes it from the study, and costs the space."""
        from .sampler import SparsitySampler

        self.calibration = self.cost.calibrate(stored)
        self.costed = cost_space(self.space, self.cost.cost)
        dense, least = self.calibration['dense'], self.costed.least
        limit = self.budget.check(dense, least, self.cost.unit) if self.budget else math.inf
        self.limit = limit * (1 + _ROUNDING)
        self._ledger.limit = self.limit
        self._agenda = Agenda(self.costed, dense, self.limit, self.budget is not None, self.trials)
        self.feasible_size = self._agenda.feasible_size
        self._sampler = SparsitySampler(
            self.costed,
            limit=self.limit,
            initial=self._initial,
            higher_is_better=self.higher_is_better,
            seed=self.seed,
        )

    def _create(self, storage: 'BaseStorage') -> Any:
        import optuna

        direction = 'maximize' if self.higher_is_better else 'minimize'
        study = optuna.create_study(
            study_name=self.name,
            storage=storage,
            directions=[direction] if self.budget else [direction, 'minimize'],
        )
        study.set_user_attr('fingerprint', self._identity)
        study.set_user_attr('calibration', self.calibration)
        study.set_user_attr('ready', True)
        return study

    def _pruner(self) -> 'BasePruner':
        from optuna.pruners import NopPruner, SuccessiveHalvingPruner

        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=_HALVING) if self.rungs else NopPruner()

    @property
    def edge_size(self) -> int | None:
        """Number of settings that use the budget up, None without one or where they are too many to list."""
        return self._sampler.edge_size

    # Asking

    def ask(self, wait: bool = True) -> Candidate | None:
        """The next setting to evaluate: within the budget, and never scored before.

        Args:
            wait: Whether to wait where all candidates are given out but other processes are still at some: one of
                theirs may have to be taken up again. Without waiting ``others`` says at how many.

        Returns:
            None when all trials are made or nothing is left to try; ``stopped`` then says why.
        """
        while True:
            candidate, self.others = self._ledger.persist(self._ask_once)
            if candidate is not None or not self.others or not wait:
                return candidate
            self._on_wait(f'waiting for {self.others} candidates of other processes')
            time.sleep(self.pause)

    def _ask_once(self) -> tuple[Candidate | None, int]:
        """A candidate, or None and how many candidates other processes are at."""
        while True:
            with self._ledger.hold() as intact:
                knowledge = self._ledger.learn()
                self.stopped = self._agenda.why_over(knowledge)
                candidate = self._begin(knowledge) if self.stopped is None else None
                if self.stopped is not None:
                    return None, len(knowledge.running) - self._ledger.own
                if candidate is not None and intact():
                    return candidate, 0
            if candidate is not None:  # the server was restarted and forgot the lock: another one may have the same
                self.release(candidate)

    def _begin(self, knowledge: Knowledge) -> Candidate | None:
        """Makes a trial; None where there is nothing to propose, or what a person had put into the queue is no use."""
        self._sampler.knowledge = knowledge
        self._sampler.first, lost_in = self._agenda.first(knowledge)
        try:
            candidate = self._ledger.begin(self.cost.cost, lost_in)
        except LookupError:
            self.stopped = OVER
            return None
        if candidate.sparsity == self._agenda.reference:
            self._ledger.mark(candidate, 'reference', True)
        elif candidate.cost > self.limit:
            self._ledger.refuse(candidate, 'over budget')
            return None
        if candidate.sparsity in knowledge.seen:
            self._ledger.refuse(candidate, 'duplicate')
            return None
        return candidate

    # Telling

    def report(self, candidate: Candidate, images: int, result: float | Mapping[str, Any]) -> bool:
        """Notes what a candidate scored on part of the images, and says whether it is given up.

        Of those that were scored on the same images the better half goes on (Optuna's asynchronous successive
        halving). The dense reference and the uniform settings always do, for they are compared with.

        Args:
            candidate: What ``ask`` returned.
            images: On how many images; one of the ``rungs`` but the last.
            result: The accuracy, or all the metrics that the evaluator gave.

        Returns:
            Whether it is given up; then its trial is ended, and it is not told any more.

        Raises:
            ValueError: If the images are no rung, or the metric searched for is not among the metrics.
        """
        if images not in self.rungs[:-1]:
            rungs = ', '.join(map(str, self.rungs[:-1])) or 'none'
            raise ValueError(f'images is {images}, but candidates are compared after these numbers of images: {rungs}.')
        accuracy, metrics = self._read(result)
        if math.isnan(accuracy):
            return False
        keep = self._agenda.is_kept(candidate.sparsity)
        step = _HALVING ** self.rungs.index(images)
        scored = {'accuracy': accuracy, 'metrics': metrics}
        if not self._ledger.give_up(candidate, step, images, scored, keep=keep):
            return False
        self._ledger.forget(candidate)
        return True

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
        accuracy, metrics = self._read(result)
        if math.isnan(accuracy):
            self.fail(candidate, f'{self.metric} is not a number')
            return None
        self._ledger.complete(candidate, {'accuracy': accuracy, 'metrics': metrics, 'seconds': seconds})
        self._ledger.forget(candidate)
        feasible = candidate.cost <= self.limit
        return Evaluation(candidate.number, candidate.sparsity, accuracy, candidate.cost, feasible, metrics, seconds)

    def fail(self, candidate: Candidate, reason: str) -> None:
        """Notes that an evaluation raised; its setting is not proposed again."""
        self._ledger.end(candidate, 'error', reason)

    def release(self, candidate: Candidate) -> None:
        """Gives a candidate back unevaluated, to be the first one when the search goes on."""
        self._ledger.end(candidate, 'released', True)

    def _read(self, result: float | Mapping[str, Any]) -> tuple[float, dict[str, float]]:
        if not isinstance(result, Mapping):
            return float(result), {}
        if self.metric is None:
            name = first_metric(result, self._wanted_metric, self.higher_is_better)
            self._ledger.persist(lambda: self._note_metric(name))
        metrics = {key: float(value) for key, value in result.items() if isinstance(value, int | float)}
        return float(result[pick_metric(result, self.metric)]), metrics

    def _note_metric(self, name: str) -> None:
        self._study.set_user_attr('metric', name)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # experimental in Optuna; only dashboards read it
            self._study.set_metric_names([name, self.cost.name][: len(self._study.directions)])

    # Reading

    @property
    def metric(self) -> str | None:
        """Full name of the metric, None before the first result."""
        return self._study.user_attrs.get('metric')

    def outcome(self) -> Outcome:
        """The study as it stands."""
        from optuna.trial import TrialState

        trials = self._ledger.persist(self._ledger.trials)
        sites = self.space.layout.sites
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        everything = [evaluation_of(trial, sites, self.limit) for trial in complete]
        dense = next((e for e in everything if not any(e.sparsity)), None)
        if dense is not None and dense.sparsity == self._agenda.reference:
            everything.remove(dense)
            dense = replace(dense, number=-1)
        return Outcome(
            sites=sites,
            evaluations=tuple(everything),
            dense=dense,
            dense_cost=self.calibration['dense'],
            least_cost=self.costed.least,
            greatest_cost=self.costed.greatest,
            limit=self.limit,
            unit=self.cost.unit,
            metric=self.metric,
            higher_is_better=self.higher_is_better,
            space_size=len(self.space),
            feasible_size=self.feasible_size,
            trials=self.trials,
            **vars(Counts.of(trials, self.rungs[-1] if self.rungs else None)),
        )

    def close(self) -> None:
        """Ends the signs of life, and lets others know that this process is gone."""
        self._ledger.close()
        self._presence.release()


def _check(trials: int | None, rungs: Sequence[int], budget: Budget | None, heartbeat: int, grace: int) -> None:
    """Finds arguments that are out of range.

    Raises:
        ValueError: If there is one.
    """
    if trials is not None and trials < 1:
        raise ValueError(f'trials must be at least 1, got {trials}.')
    if rungs and budget is None:
        raise ValueError(
            'rungs need a budget: without one candidates are compared by accuracy and cost, and which of them to give '
            'up cannot be told by either alone. Give a budget, or score all candidates on all images.'
        )
    if rungs and (len(rungs) < 2 or min(rungs) < 1 or any(a >= b for a, b in pairwise(rungs))):
        raise ValueError(f'rungs must be ascending numbers of images, two at least, got {tuple(rungs)}.')
    if heartbeat < 1 or grace < 2 * heartbeat:
        raise ValueError(
            f'heartbeat must be 1 second at least and grace twice as long, got {heartbeat} and {grace}: otherwise a '
            f'process is taken for lost when one of its signs of life is late.'
        )
