"""What to evaluate next: the settings that use the budget up, ranked by what is known."""

import math
import random
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler

from ..sparsity import SparsitySpace
from .feasible import CostedSpace
from .surrogate import Surrogate, expected_improvement
from .trials import Knowledge

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ['SparsitySampler', 'distributions_of']

_LISTED = 8000  # settings that are ranked at once
_DRAWN = 96  # settings that are drawn where they cannot be listed, and as many near the best ones
_BEST = 8  # settings whose neighbours are proposed there
_SPREAD = 32  # settings that one of the first ones is chosen from
_TRIES = 2000  # draws for a setting that was not met before

Vector = tuple[float, ...]


def distributions_of(space: SparsitySpace) -> dict[str, BaseDistribution]:
    """One parameter a site, named like the site, with the sparsities that it may have as its choices.

    A vector has exactly one form as parameters, so that a repeated one is found by comparison and a dashboard
    shows sparsities instead of indices. Zero is always among them, since the dense setting is evaluated for
    comparison where it is no candidate.
    """
    choices = tuple(sorted({0.0, *space.choices}))
    return {site: CategoricalDistribution(choices) for site in space.layout.sites}


class SparsitySampler(BaseSampler):
    """Proposes settings at the edge of the budget that promise most.

    - All proposals keep the budget, and use it up: no site could be one choice less sparse. What is below
      the edge computes less than it may. Only where the edge is used up are settings below it proposed.
    - The first ones lie far from each other. Then a :class:`Surrogate` of the accuracies that are known predicts
      the others, and the one with the greatest expected improvement is proposed.
    - Settings that other workers are at count as if they had scored what is predicted, so that workers spread out.
    - Without a budget each proposal draws a cost between the least and that of dense, and takes it for its budget: the
      front is searched all along.
    - Where a space is too large to be listed, settings are drawn and moved to the edge by steps at random sites, and
      so are mutations of the best ones.

    All randomness of a trial comes from the seed and the trial's number: a killed search needs no generator state
    to go on, and workers on one study do not propose the same.

    Args:
        costed: The settings and what they cost.
        limit: The budget in the unit of the cost, infinite without one.
        initial: Evaluations before the surrogate is asked.
        higher_is_better: Direction of the accuracy.
        seed: Seed of the search.
    """

    def __init__(
        self, costed: CostedSpace, *, limit: float, initial: int, higher_is_better: bool = True, seed: int = 0
    ) -> None:
        self.costed, self.limit, self.initial, self.seed = costed, limit, initial, seed
        self.knowledge = Knowledge()
        self.first: Vector | None = None
        self._sign = 1.0 if higher_is_better else -1.0
        self._distributions = distributions_of(costed.space)
        self._index = {choice: i for i, choice in enumerate(costed.space.choices)}
        self._edge = costed.edge(limit) if math.isfinite(limit) else None
        self._independent = RandomSampler(seed)

    @property
    def space(self) -> SparsitySpace:
        """The allowed settings."""
        return self.costed.space

    @property
    def edge_size(self) -> int | None:
        """Number of settings that use the budget up, None where they are not listed or there is no budget."""
        return None if self._edge is None else len(self._edge)

    def infer_relative_search_space(self, study: 'Study', trial: 'FrozenTrial') -> dict[str, BaseDistribution]:
        """All sites, from the first trial on."""
        return self._distributions

    def sample_relative(
        self, study: 'Study', trial: 'FrozenTrial', search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters of a trial: ``first`` where it is set, otherwise by ``knowledge``.

        Raises:
            LookupError: If every setting within the budget is known.
        """
        vector = self.first if self.first is not None else self.propose(trial.number)
        if vector is None:
            raise LookupError('no setting is left')
        return dict(zip(self.space.layout.sites, vector))

    def sample_independent(
        self, study: 'Study', trial: 'FrozenTrial', param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """What Optuna asks for parameters that are no sites; there are none in a study of ours."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def propose(self, number: int) -> Vector | None:
        """The setting of a trial, None where none is left.

        Args:
            number: Number of the trial.
        """
        rng = random.Random(f'{self.seed}/{number}')
        limit = self.limit if math.isfinite(self.limit) else self._drawn_limit(rng)
        pool = self._pool(rng, limit)
        return self._favourite(rng, pool, limit) if pool else self._rest(rng)

    def _drawn_limit(self, rng: random.Random) -> float:
        return rng.uniform(self.costed.least, self.costed.greatest)

    # What may be proposed

    def _pool(self, rng: random.Random, limit: float) -> list[Vector]:
        """Settings at the edge of a limit that are not known."""
        listed = self._edge if limit == self.limit else self.costed.edge(limit)
        if listed is not None:
            left = [vector for vector in listed if vector not in self.knowledge.seen]
            return left if len(left) <= _LISTED else self._sampled(rng, left)
        drawn = [self._shape(rng, self.space.sample(rng), limit) for _ in range(_DRAWN)]
        best = self._best(limit)
        drawn += [self._shape(rng, self._mutated(rng, rng.choice(best)), limit) for _ in range(_DRAWN if best else 0)]
        return [vector for vector in dict.fromkeys(drawn) if self._may(vector)]

    def _sampled(self, rng: random.Random, settings: Sequence[Vector]) -> list[Vector]:
        """Some of many, and those that are like the best ones."""
        best = set(self._best(math.inf))
        near = [v for v in settings if any(sum(a != b for a, b in zip(v, other)) <= 2 for other in best)]
        return list(dict.fromkeys([*rng.sample(settings, _LISTED // 2), *near[: _LISTED // 2]]))

    def _best(self, limit: float) -> list[Vector]:
        within = [(self._sign * a, v) for v, a in self.knowledge.scored.items() if self.costed.cost(v) <= limit]
        return [vector for _, vector in sorted(within, reverse=True)[:_BEST] if vector in self.space]

    def _may(self, vector: Vector) -> bool:
        return vector not in self.knowledge.seen and self.costed.cost(vector) <= self.limit

    def _rest(self, rng: random.Random) -> Vector | None:
        """Any setting within the budget that is not known, by draws and then by going through them all."""
        draws = (self.space.sample(rng) for _ in range(_TRIES))
        found = next(filter(self._may, draws), None)
        return next(filter(self._may, self._all()), None) if found is None else found

    def _all(self) -> Iterable[Vector]:
        return islice(self.space, 1_000_000)

    # Which of them is

    def _favourite(self, rng: random.Random, pool: list[Vector], limit: float) -> Vector:
        known = self.knowledge.scored
        if len(known) < max(2, self.initial):
            return self._farthest(rng, pool)
        surrogate = Surrogate(list(known), [self._sign * accuracy for accuracy in known.values()])
        if running := self.knowledge.running:
            guessed, _ = surrogate.predict(running)
            accuracies = [*(self._sign * accuracy for accuracy in known.values()), *guessed]
            surrogate = Surrogate([*known, *running], accuracies, like=surrogate)
        rivals = [self._sign * accuracy for vector, accuracy in known.items() if self.costed.cost(vector) <= limit]
        mean, deviation = surrogate.predict(pool)
        best = max(rivals, default=float(mean.max()))
        return pool[int(np.argmax(expected_improvement(mean, deviation, best)))]

    def _farthest(self, rng: random.Random, pool: list[Vector]) -> Vector:
        """The one that differs most from all that are known, of a few that are drawn."""
        some = rng.sample(pool, min(len(pool), _SPREAD))
        known = np.array([*self.knowledge.scored, *self.knowledge.running] or [(0.0,) * len(self._distributions)])
        squares = ((np.array(some)[:, None] - known) ** 2).sum(-1).min(1)
        return some[int(np.argmax(squares))]

    # Where settings cannot be listed

    def _mutated(self, rng: random.Random, vector: Vector) -> Vector:
        """A neighbour: some sites, one in expectation, at another choice, sorted within each group."""
        genes, top = [self._index[value] for value in vector], len(self.space.choices) - 1
        for i in range(len(genes)):
            if rng.random() < 1 / len(genes):
                step = rng.choice((-1, 1)) if rng.random() < 0.75 else rng.randint(-top, top)
                genes[i] = min(max(genes[i] + step, 0), top)
        for span in self.space.layout.spans:
            genes[span] = sorted(genes[span])
        return self._vector(genes)

    def _shape(self, rng: random.Random, vector: Vector, limit: float) -> Vector:
        """Moves a setting to the edge of a limit by steps at random sites, where it allows any."""
        genes = [self._index[value] for value in vector]
        while self.costed.cost(self._vector(genes)) > limit and self._step(rng, genes, 1, math.inf):
            pass
        while self._step(rng, genes, -1, limit):
            pass
        return self._vector(genes)

    def _step(self, rng: random.Random, genes: list[int], step: int, limit: float) -> bool:
        """Changes one random gene by a step that keeps groups in order and the limit; whether there was one."""
        places = [
            i for span in self.space.layout.spans for i in range(span.start, span.stop) if self._fits(genes, i, step)
        ]
        rng.shuffle(places)
        for i in places:
            genes[i] += step
            if self.costed.cost(self._vector(genes)) <= limit:
                return True
            genes[i] -= step
        return False

    def _fits(self, genes: Sequence[int], i: int, step: int) -> bool:
        """Whether gene ``i`` can move by a step within the choices and the order of its group."""
        value, neighbour = genes[i] + step, i + step
        group = next(span for span in self.space.layout.spans if span.start <= i < span.stop)
        in_order = not group.start <= neighbour < group.stop or step * (genes[neighbour] - value) >= 0
        return in_order and 0 <= value < len(self.space.choices)

    def _vector(self, genes: Sequence[int]) -> Vector:
        return tuple(self.space.choices[gene] for gene in genes)
