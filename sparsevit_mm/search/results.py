"""What a search passes around: candidates, evaluations, and the front among them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ['Candidate', 'Evaluation', 'Measured', 'Outcome', 'best_of', 'front_of']


@dataclass(frozen=True)
class Candidate:
    """A setting that is to be evaluated.

    Args:
        number: Number of its trial in the study.
        sparsity: One float a site.
        cost: Its cost in the unit of the study's cost model.
    """

    number: int
    sparsity: tuple[float, ...]
    cost: float


@dataclass(frozen=True)
class Evaluation:
    """A setting whose accuracy is known.

    Args:
        number: Number of its trial, -1 for the dense reference, which is no candidate.
        sparsity: One float a site.
        accuracy: The metric that the study optimizes.
        cost: In the unit of the study's cost model.
        feasible: Whether the cost is within the budget.
        metrics: All that the evaluator gave.
        seconds: Wall time of the evaluation.
    """

    number: int
    sparsity: tuple[float, ...]
    accuracy: float
    cost: float
    feasible: bool = True
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def uniform(self) -> bool:
        """Whether every site has the same sparsity."""
        return len(set(self.sparsity)) <= 1


def front_of(evaluations: Sequence[Evaluation], higher_is_better: bool = True) -> list[Evaluation]:
    """Those that no other beats in both accuracy and cost, from the cheapest on.

    Of settings that are equal in both, the first one stays.
    """
    sign = 1 if higher_is_better else -1
    front: list[Evaluation] = []
    for candidate in sorted(evaluations, key=lambda e: (e.cost, -sign * e.accuracy)):
        if not front or sign * candidate.accuracy > sign * front[-1].accuracy:
            front.append(candidate)
    return front


def best_of(evaluations: Sequence[Evaluation], higher_is_better: bool = True) -> Evaluation | None:
    """The most accurate one within the budget, the cheaper one of equals; None where there is none."""
    sign = 1 if higher_is_better else -1
    return max((e for e in evaluations if e.feasible), key=lambda e: (sign * e.accuracy, -e.cost), default=None)


@dataclass(frozen=True)
class Measured:
    """The latency of a setting as it was measured in the end, in alternation with the others.

    Args:
        sparsity: One float a site.
        median: Seconds of one forward of the backbone.
        q1: Seconds, the lower quartile over the rounds.
        q3: Seconds, the upper quartile over the rounds.
    """

    sparsity: tuple[float, ...]
    median: float
    q1: float
    q3: float

    @property
    def spread(self) -> float:
        """The distance of the quartiles as a fraction of the median."""
        return (self.q3 - self.q1) / self.median


@dataclass(frozen=True)
class Outcome:
    """A study as it stands.

    Args:
        sites: Names of the sites, in the order of every sparsity vector.
        evaluations: All candidates that were scored on all images, in the order of their trials.
        dense: The dense reference, None as long as it is not evaluated.
        dense_cost: Cost at sparsity 0.
        least_cost: Least cost of any setting of the space.
        greatest_cost: Greatest cost of any setting of the space.
        limit: The budget in the unit of the cost, infinite without a budget.
        unit: Unit of the cost.
        metric: Name of the metric, None as long as it is not known.
        higher_is_better: Direction of the metric.
        duplicates: Number of proposals that were already known and cost nothing.
        failed: Numbers of the trials whose evaluation raised.
        interrupted: Number of trials that were lost with their process or given back, and run again.
        space_size: Number of settings in the space.
        trials: Number of candidates that the search is to begin, those stopped early included; None for no end.
        feasible_size: Number of settings within the budget, None where they are not counted.
        stopped_early: Number of candidates that were given up after part of the images.
        saved: Fraction of the image evaluations of all candidates that this spared.
        workers: Number of processes that evaluated something.
    """

    sites: tuple[str, ...]
    evaluations: tuple[Evaluation, ...]
    dense: Evaluation | None
    dense_cost: float
    least_cost: float
    greatest_cost: float
    limit: float
    unit: str
    metric: str | None
    higher_is_better: bool
    duplicates: int
    failed: tuple[int, ...]
    interrupted: int
    space_size: int
    trials: int | None
    feasible_size: int | None = None
    stopped_early: int = 0
    saved: float = 0.0
    workers: int = 1

    @property
    def metric_name(self) -> str:
        """The metric for tables: without its prefix, which can be long."""
        return (self.metric or 'accuracy').rpartition('/')[-1]

    @property
    def has_budget(self) -> bool:
        """Whether there is a limit; without one the whole front is what was searched for."""
        return math.isfinite(self.limit)

    @property
    def best(self) -> Evaluation | None:
        """The most accurate evaluation within the budget."""
        return best_of(self.evaluations, self.higher_is_better)

    @property
    def front(self) -> list[Evaluation]:
        """The Pareto front within the budget, from the cheapest setting on."""
        return front_of([e for e in self.evaluations if e.feasible], self.higher_is_better)

    @property
    def uniform(self) -> list[Evaluation]:
        """The evaluated settings with one sparsity for all sites, from the lowest on."""
        return sorted((e for e in self.evaluations if e.uniform), key=lambda e: e.sparsity)

    @property
    def best_uniform(self) -> Evaluation | None:
        """The most accurate setting within the budget that has one sparsity for all sites."""
        return best_of(self.uniform, self.higher_is_better)

    def share(self, cost: float) -> float:
        """A cost as a fraction of the dense one."""
        return cost / self.dense_cost

    def gain(self, better: Evaluation, other: Evaluation) -> float:
        """By how much one is more accurate than another, whatever the direction of the metric."""
        difference = better.accuracy - other.accuracy
        return difference if self.higher_is_better else -difference
