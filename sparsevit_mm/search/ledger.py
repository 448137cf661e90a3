"""The trials of a study: begun, scored and ended by any number of processes, without one getting in another's way."""

import math
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ..sparsity import SparsitySpace
from .opening import end_lost_trials
from .results import Candidate
from .storage.database import persist, reason_of
from .storage.exclusion import Exclusion
from .storage.heartbeat import Heartbeat
from .trials import Knowledge, vector_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

__all__ = ['Ledger']

T = TypeVar('T')
Vector = tuple[float, ...]

_CONSTRAINTS = 'constraints'  # where optuna-dashboard looks, for which named constraints are too new


class Ledger:
    """Writes what happens to candidates into an Optuna study.

    Whatever reads the trials and then writes does so under one lock, that of asking. Every step may be repeated: a
    storage whose answer was lost is asked again.

    Args:
        storage: Where the study is.
        url: Its URL, None for memory.
        name: Name of the study.
        space: The allowed settings.
        patience: Seconds for which a storage that does not answer is tried again.
        on_wait: Called with a sentence where something has to be waited for.
    """

    def __init__(
        self,
        storage: 'BaseStorage',
        url: str | None,
        name: str,
        space: SparsitySpace,
        *,
        patience: float,
        on_wait: Callable[[str], None],
    ) -> None:
        from .sampler import distributions_of

        self.sites, self.limit = space.layout.sites, math.inf
        self.distributions: Mapping[str, BaseDistribution] = distributions_of(space)
        self.study: Study  # set once it is found or made
        self._storage, self._patience, self._on_wait = storage, patience, on_wait
        self._asking = Exclusion(url, name, 'ask')
        self._heartbeat = Heartbeat(storage)
        self._running: dict[int, Trial] = {}
        self._worker = f'{socket.gethostname()}:{os.getpid()}'

    @property
    def own(self) -> int:
        """Number of candidates that this process is at."""
        return len(self._running)

    @contextmanager
    def hold(self) -> Iterator[Callable[[], bool]]:
        """The lock under which trials are read and written; gives a function that says whether it was kept so far."""
        with self._asking.hold(lambda seconds: self._on_wait(f'other processes ask, {seconds:.0f} s so far')) as intact:
            yield intact

    def persist(self, call: Callable[[], T]) -> T:
        """Calls until the storage answers, as long as there is patience."""
        return persist(call, patience=self._patience, waiting=self._say_that_it_is_away)

    def _say_that_it_is_away(self, seconds: float, error: Exception) -> None:
        self._on_wait(f'the storage does not answer, {seconds:.0f} s so far: {reason_of(error)}')

    def trials(self) -> 'list[FrozenTrial]':
        """All of them, in the order of their numbers."""
        return self.study.get_trials(deepcopy=False)

    # Under the lock

    def learn(self) -> Knowledge:
        """What is known, after lost trials were ended and results added that were stored and never told."""
        knowledge = Knowledge.of(end_lost_trials(self.study), self.sites)
        for trial in knowledge.to_recover:
            self._add(trial, trial.user_attrs['result'])
        return Knowledge.of(self.trials(), self.sites) if knowledge.to_recover else knowledge

    def begin(self, cost: Callable[[Vector], float], lost_in: int | None = None) -> Candidate:
        """Makes a trial of what the sampler proposes, gives it a first sign of life, and signs it in the end.

        Args:
            cost: What a setting costs.
            lost_in: The trial that the setting was lost in.

        Raises:
            LookupError: If the sampler has nothing to propose.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='Heartbeat of storage')  # the signs of life are given here
            try:
                trial = self.study.ask(dict(self.distributions))
            except LookupError:
                end_lost_trials(self.study)  # Optuna has made a trial before it asked the sampler
                raise
        vector = vector_of(trial, self.sites)
        candidate = Candidate(trial.number, vector, cost(vector))
        self._heartbeat.start(trial._trial_id)
        try:
            trial.set_user_attr('cost', candidate.cost)
            if lost_in is not None:
                trial.set_user_attr('retry_of', lost_in)
            if math.isfinite(self.limit):
                over = candidate.cost - self.limit
                trial.set_constraint('budget', over)
                self._storage.set_trial_system_attr(trial._trial_id, _CONSTRAINTS, [over])
            trial.set_user_attr('worker', self._worker)
        except BaseException:
            self._heartbeat.stop(trial._trial_id)  # nobody is at it, so it must not look alive
            raise
        self._running[trial.number] = trial
        return candidate

    def refuse(self, candidate: Candidate, reason: str) -> None:
        """Ends a trial that is not worth an evaluation."""
        from optuna.trial import TrialState

        self._running[candidate.number].set_user_attr('reason', reason)
        self.study.tell(candidate.number, state=TrialState.PRUNED)
        self.forget(candidate)

    # Taking the lock themselves

    def mark(self, candidate: Candidate, key: str, value: Any) -> None:
        """Notes something with a trial."""
        self._running[candidate.number].set_user_attr(key, value)

    def give_up(self, candidate: Candidate, step: int, images: int, scored: Mapping[str, Any], *, keep: bool) -> bool:
        """Notes a score on part of the images, and ends the trial where Optuna's pruner says so.

        Args:
            candidate: What is scored.
            step: Which part, in the pruner's steps.
            images: How many images that are.
            scored: ``accuracy`` and ``metrics`` on them.
            keep: Whether it goes on in any case.

        Returns:
            Whether the trial is ended.
        """
        return self.persist(lambda: self._give_up(candidate, step, images, scored, keep))

    def _give_up(self, candidate: Candidate, step: int, images: int, scored: Mapping[str, Any], keep: bool) -> bool:
        from optuna.trial import TrialState

        trial = self._running[candidate.number]
        with self.hold():
            state = self._own(candidate).state
            if state != TrialState.RUNNING:  # PRUNED by a call whose answer was lost, or FAIL: taken for lost
                return state == TrialState.PRUNED
            trial.report(scored['accuracy'], step)
            if not trial.should_prune() or keep:
                return False
            trial.set_user_attr('partial', dict(scored))
            trial.set_user_attr('stopped_at', images)
            self.study.tell(candidate.number, state=TrialState.PRUNED)
            return True

    def complete(self, candidate: Candidate, scored: Mapping[str, Any]) -> None:
        """Ends a trial with its result.

        Where the trial was taken for lost meanwhile, the result is added as a trial of its own. Where another process
        has scored the setting meanwhile, its result stands.

        Args:
            candidate: What was scored.
            scored: ``accuracy``, ``metrics`` and ``seconds``.
        """
        self.persist(lambda: self._complete(candidate, scored))

    def _complete(self, candidate: Candidate, scored: Mapping[str, Any]) -> None:
        from optuna.trial import TrialState

        with self.hold():
            own = self._own(candidate)
            again = own.state != TrialState.RUNNING or 'retry_of' in own.user_attrs
            known = again and self._is_scored(candidate.sparsity)
            if own.state == TrialState.RUNNING and known:
                self._running[candidate.number].set_user_attr('reason', 'duplicate')
                self.study.tell(candidate.number, state=TrialState.PRUNED)
            elif own.state == TrialState.RUNNING:
                self._running[candidate.number].set_user_attr('result', dict(scored))
                self.study.tell(candidate.number, self._values(scored, candidate.cost))
            elif not known:
                self._add(own, scored)

    def end(self, candidate: Candidate, key: str, value: Any) -> None:
        """Fails a trial.

        Args:
            candidate: What was to be scored.
            key: ``error`` where the evaluation raised, ``released`` where it is given back.
            value: What is noted under it.
        """
        self.persist(lambda: self._end(candidate, key, value))
        self.forget(candidate)

    def _end(self, candidate: Candidate, key: str, value: Any) -> None:
        from optuna.trial import TrialState

        with self.hold():
            if self._own(candidate).state == TrialState.RUNNING:
                self._running[candidate.number].set_user_attr(key, value)
                self.study.tell(candidate.number, state=TrialState.FAIL)

    def forget(self, candidate: Candidate) -> None:
        """Gives no signs of life for a trial any longer."""
        trial = self._running.pop(candidate.number)
        self._heartbeat.stop(trial._trial_id)

    def close(self) -> None:
        """Gives no signs of life at all any longer."""
        self._heartbeat.close()

    # Details

    def _own(self, candidate: Candidate) -> 'FrozenTrial':
        """The trial of a candidate as it is in the storage."""
        return self._storage.get_trial(self._running[candidate.number]._trial_id)

    def _is_scored(self, vector: Vector) -> bool:
        from optuna.trial import TrialState

        complete = (trial for trial in self.trials() if trial.state == TrialState.COMPLETE)
        return any(vector_of(trial, self.sites) == vector for trial in complete)

    def _values(self, scored: Mapping[str, Any], cost: float) -> list[float]:
        return [scored['accuracy'], cost][: len(self.study.directions)]

    def _add(self, ended: 'FrozenTrial', scored: Mapping[str, Any]) -> None:
        """Adds the result of a trial that was ended before it could be told."""
        import optuna

        cost = ended.user_attrs['cost']
        attrs = {key: value for key, value in ended.user_attrs.items() if key != 'released'}
        self.study.add_trial(
            optuna.trial.create_trial(
                values=self._values(scored, cost),
                params=ended.params,
                distributions=ended.distributions,
                user_attrs={**attrs, 'result': dict(scored), 'late_result_of': ended.number},
                intermediate_values=ended.intermediate_values,
                constraints={'budget': cost - self.limit} if math.isfinite(self.limit) else None,
                system_attrs={_CONSTRAINTS: [cost - self.limit]} if math.isfinite(self.limit) else None,
            )
        )
