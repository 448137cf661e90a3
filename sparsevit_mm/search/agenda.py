"""What is due in a search before anything is chosen, and when there is nothing left to do."""

from dataclasses import dataclass
from functools import cached_property

from .feasible import CostedSpace
from .trials import Knowledge

__all__ = ['OVER', 'Agenda']

Vector = tuple[float, ...]

UNIFORM = 2  # settings with one sparsity for all sites that are evaluated for comparison under a budget
OVER = 'no setting within the budget is left that was not evaluated'


@dataclass(frozen=True)
class Agenda:
    """What has to be evaluated whatever is known.

    Args:
        costed: The settings and what they cost.
        dense_cost: Cost at sparsity 0.
        limit: The budget, infinite without one.
        has_budget: Whether there is one.
        trials: Number of candidates in all, None for no end.
    """

    costed: CostedSpace
    dense_cost: float
    limit: float
    has_budget: bool
    trials: int | None

    @cached_property
    def feasible_size(self) -> int | None:
        """Number of settings within the budget, None where they are not counted."""
        return self.costed.count_within(self.limit)

    @cached_property
    def reference(self) -> Vector | None:
        """The dense setting where it is no candidate, but evaluated for comparison."""
        dense = (0.0,) * len(self.costed.space.layout.sites)
        return None if dense in self.costed.space and self.dense_cost <= self.limit else dense

    @cached_property
    def uniform(self) -> tuple[Vector, ...]:
        """Settings with one sparsity for all sites to compare with.

        Under a budget the least sparse ones that it allows, without one all.
        """
        within = [vector for vector in self.costed.space.uniform() if self.costed.cost(vector) <= self.limit]
        return tuple(within[:UNIFORM] if self.has_budget else within)

    def is_kept(self, vector: Vector) -> bool:
        """Whether a setting is scored on all images, however it does on a part: others are compared with it."""
        return vector == self.reference or vector in self.uniform

    def first(self, knowledge: Knowledge) -> tuple[Vector | None, int | None]:
        """What is due now, and the trial that it was lost in; None where the search may choose."""
        if knowledge.lost:
            return knowledge.lost[0]
        due = [] if self.reference is None else [self.reference]
        return next((vector for vector in [*due, *self.uniform] if vector not in knowledge.seen), None), None

    def why_over(self, knowledge: Knowledge) -> str | None:
        """Why there is nothing left to do, None while there is."""
        if knowledge.lost or (self.reference is not None and self.reference not in knowledge.seen):
            return None
        if self.trials is not None and knowledge.begun >= self.trials:
            return f'all {self.trials} evaluations are made'
        if self.feasible_size is None or len(knowledge.seen) < self.feasible_size:
            return None
        space, cost = self.costed.space, self.costed.cost
        known = sum(vector in space and cost(vector) <= self.limit for vector in knowledge.seen)
        return OVER if known >= self.feasible_size else None
