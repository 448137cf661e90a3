"""What Optuna's trials say, in our terms.

A trial is *complete* with an accuracy on all images; *pruned* where it was given up after part of them
(``stopped_at`` in its attributes), or never scored because it is over budget or known already (``reason``); *failed*
because its evaluation raised (``error``) or its process was lost or gave it back (no ``error``).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import TYPE_CHECKING

from .results import Evaluation

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ['Counts', 'Knowledge', 'cost_of', 'evaluation_of', 'vector_of']

LOSSES = 3  # of one setting with its process, after which the setting is to blame

Vector = tuple[float, ...]


def vector_of(trial: 'FrozenTrial', sites: Sequence[str]) -> Vector | None:
    """The setting of a trial, None where its process was lost before all of it was drawn."""
    return tuple(trial.params[site] for site in sites) if len(trial.params) == len(sites) else None


def cost_of(trial: 'FrozenTrial') -> float | None:
    """What a trial's setting costs, None where that was not noted yet."""
    return trial.user_attrs.get('cost')


def evaluation_of(trial: 'FrozenTrial', sites: Sequence[str], limit: float) -> Evaluation:
    """The result of a complete trial."""
    result, cost = trial.user_attrs.get('result', {}), cost_of(trial)
    return Evaluation(
        number=trial.number,
        sparsity=vector_of(trial, sites),
        accuracy=trial.values[0],
        cost=cost,
        feasible=cost <= limit,
        metrics=result.get('metrics', {}),
        seconds=result.get('seconds', 0.0),
    )


@dataclass(frozen=True)
class Knowledge:
    """What is known about settings before the next one is proposed.

    Args:
        seen: Trial number of every setting that must not be proposed again.
        scored: Accuracy on all images, for settings that were given up an estimate by their part.
        running: Settings that a worker is at.
        lost: Settings to take up again, with the number of the trial that they were lost in; the longest lost first.
        to_recover: Trials that were ended although their result is stored.
        begun: Number of candidates that are or were evaluated, the dense reference not counted.
    """

    seen: Mapping[Vector, int] = field(default_factory=dict)
    scored: Mapping[Vector, float] = field(default_factory=dict)
    running: tuple[Vector, ...] = ()
    lost: tuple[tuple[Vector, int], ...] = ()
    to_recover: tuple['FrozenTrial', ...] = ()
    begun: int = 0

    @classmethod
    def of(cls, trials: Iterable['FrozenTrial'], sites: Sequence[str]) -> 'Knowledge':
        """Reads the trials of a study.

        Args:
            trials: All of them.
            sites: Names of the sites.
        """
        from optuna.trial import TrialState

        seen: dict[Vector, int] = {}
        complete: dict[Vector, FrozenTrial] = {}
        stopped: dict[Vector, FrozenTrial] = {}
        running: list[Vector] = []
        ended: list[tuple[Vector, FrozenTrial]] = []
        references = 0
        for trial in trials:
            vector, attrs = vector_of(trial, sites), trial.user_attrs
            if vector is None or trial.state == TrialState.WAITING or attrs.get('reason') == 'duplicate':
                continue
            if trial.state == TrialState.FAIL and 'error' not in attrs:
                ended.append((vector, trial))
                continue
            seen.setdefault(vector, trial.number)
            if trial.state == TrialState.COMPLETE:
                complete[vector] = trial
            elif 'stopped_at' in attrs:
                stopped[vector] = trial
            elif trial.state == TrialState.RUNNING:
                running.append(vector)
            references += attrs.get('reference', False) and trial.state in (TrialState.COMPLETE, TrialState.RUNNING)
        losses = Counter(vector for vector, trial in ended if 'released' not in trial.user_attrs)
        lost = {vector: trial.number for vector, trial in ended if vector not in seen and losses[vector] < LOSSES}
        seen |= {vector: trial.number for vector, trial in ended if vector not in seen and losses[vector] >= LOSSES}
        return cls(
            seen=seen,
            scored={v: trial.values[0] for v, trial in complete.items()} | _estimates(complete.values(), stopped),
            running=tuple(running),
            lost=tuple(lost.items()),
            to_recover=tuple(t for v, t in ended if 'result' in t.user_attrs and v not in complete),
            begun=len(complete) + len(stopped) + len(running) - references,
        )


def _estimates(complete: Iterable['FrozenTrial'], stopped: Mapping[Vector, 'FrozenTrial']) -> dict[Vector, float]:
    """What settings would have scored that were given up: their last score, and what others gained from there on."""
    gains: dict[int, list[float]] = {}
    for trial in complete:
        for step, value in trial.intermediate_values.items():
            gains.setdefault(step, []).append(trial.values[0] - value)
    return {
        vector: trial.intermediate_values[trial.last_step] + mean(gains.get(trial.last_step, [0.0]))
        for vector, trial in stopped.items()
        if trial.last_step is not None
    }


@dataclass(frozen=True)
class Counts:
    """How trials ended.

    Args:
        duplicates: Those whose setting another worker had scored meanwhile.
        failed: Numbers of those whose evaluation raised.
        interrupted: Those that were lost with their process, or given back.
        stopped_early: Those that were given up after part of the images.
        saved: Fraction of the images of all candidates that this spared.
        workers: Processes that evaluated something.
    """

    duplicates: int
    failed: tuple[int, ...]
    interrupted: int
    stopped_early: int
    saved: float
    workers: int

    @classmethod
    def of(cls, trials: Sequence['FrozenTrial'], images: int | None) -> 'Counts':
        """Counts the trials of a study.

        Args:
            trials: All of them.
            images: Images that a candidate is scored on, None where that is not known.
        """
        from optuna.trial import TrialState

        failed = [trial for trial in trials if trial.state == TrialState.FAIL]
        pruned = [trial.user_attrs for trial in trials if trial.state == TrialState.PRUNED]
        stopped = [attrs['stopped_at'] for attrs in pruned if 'stopped_at' in attrs]
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        candidates = sum(not trial.user_attrs.get('reference', False) for trial in complete) + len(stopped)
        spared = sum(1 - done / images for done in stopped) if images else 0.0
        return cls(
            duplicates=sum(trial.user_attrs.get('reason') == 'duplicate' for trial in trials),
            failed=tuple(trial.number for trial in failed if 'error' in trial.user_attrs),
            interrupted=sum('error' not in trial.user_attrs for trial in failed),
            stopped_early=len(stopped),
            saved=spared / candidates if candidates else 0.0,
            workers=len({worker for worker in _workers(complete)}) or 1,
        )


def _workers(trials: Iterable['FrozenTrial']) -> Iterator[str]:
    return (trial.user_attrs['worker'] for trial in trials if 'worker' in trial.user_attrs)
