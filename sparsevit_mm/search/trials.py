"""What Optuna's trials say, in our terms.

A trial is *complete* with an accuracy and a cost; *pruned* without an evaluation, because it is over budget
(``cost`` in its attributes) or known already (``duplicate_of``); *failed* because its evaluation raised (``error``)
or its process was lost (no ``error``).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from .results import Evaluation

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ['KNOWN', 'OVER_BUDGET', 'Counts', 'Knowledge', 'evaluation_of', 'vector_of']

KNOWN, OVER_BUDGET = 'known', 'over budget'
_LATEST = 12  # measured costs that correct the estimate of the next ones


def vector_of(trial: 'FrozenTrial', sites: Sequence[str]) -> tuple[float, ...] | None:
    """The setting of a trial, None where its process was lost before all of it was drawn."""
    return tuple(trial.params[site] for site in sites) if len(trial.params) == len(sites) else None


def evaluation_of(trial: 'FrozenTrial', sites: Sequence[str], limit: float) -> Evaluation:
    """The result of a complete trial."""
    accuracy, cost = trial.values
    result = trial.user_attrs.get('result', {})
    return Evaluation(
        number=trial.number,
        sparsity=vector_of(trial, sites),
        accuracy=accuracy,
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
        costs: Cost of every setting that was costed.
        over: Settings that are over budget by more than the uncertainty of the cost model.
        correction: Cost over estimate, the median of the latest.
    """

    seen: dict[tuple[float, ...], int] = field(default_factory=dict)
    costs: dict[tuple[float, ...], float] = field(default_factory=dict)
    over: tuple[tuple[float, ...], ...] = ()
    correction: float = 1.0

    @classmethod
    def of(
        cls,
        trials: Iterable['FrozenTrial'],
        sites: Sequence[str],
        *,
        surely_over: float,
        estimate: Callable[[tuple[float, ...]], float] | None = None,
    ) -> 'Knowledge':
        """Reads the trials of a study.

        Args:
            trials: All of them.
            sites: Names of the sites.
            surely_over: Cost from which a setting is over budget in spite of any noise.
            estimate: What is to be corrected, None for exact costs.
        """
        from optuna.trial import TrialState

        seen, costs, over = {}, {}, []
        for trial in trials:
            sparsity = vector_of(trial, sites)
            if sparsity is None or trial.state == TrialState.WAITING:
                continue
            interrupted = trial.state == TrialState.FAIL and 'error' not in trial.user_attrs
            if not interrupted and 'duplicate_of' not in trial.user_attrs:
                seen.setdefault(sparsity, trial.number)
            cost = trial.user_attrs.get('cost')
            if cost is not None:
                costs[sparsity] = cost
                if cost > surely_over:
                    over.append(sparsity)
        latest = list(costs.items())[-_LATEST:] if estimate else []
        ratios = [cost / estimate(sparsity) for sparsity, cost in latest]
        return cls(seen, costs, tuple(over), median(ratios) if ratios else 1.0)

    def does_more_than_one_over_budget(self, sparsity: Sequence[float]) -> bool:
        """Whether a setting is nowhere sparser than one that was measured over budget."""
        return any(all(s <= o for s, o in zip(sparsity, over)) for over in self.over)


@dataclass(frozen=True)
class Counts:
    """How many trials ended without a result.

    Args:
        over_budget: Proposals over budget.
        duplicates: Proposals that were known already.
        failed: Numbers of the trials whose evaluation raised.
        interrupted: Trials that were lost with their process, or given back.
    """

    over_budget: int
    duplicates: int
    failed: tuple[int, ...]
    interrupted: int

    @classmethod
    def of(cls, trials: Sequence['FrozenTrial']) -> 'Counts':
        """Counts the trials of a study, and the proposals that never became trials."""
        from optuna.trial import TrialState

        pruned = [trial.user_attrs for trial in trials if trial.state == TrialState.PRUNED]
        failed = [trial for trial in trials if trial.state == TrialState.FAIL]
        rejected = [trial.user_attrs.get('rejected', {}) for trial in trials]
        return cls(
            over_budget=sum('cost' in attrs for attrs in pruned) + sum(r.get(OVER_BUDGET, 0) for r in rejected),
            duplicates=sum('duplicate_of' in attrs for attrs in pruned) + sum(r.get(KNOWN, 0) for r in rejected),
            failed=tuple(trial.number for trial in failed if 'error' in trial.user_attrs),
            interrupted=sum('error' not in trial.user_attrs for trial in failed),
        )
