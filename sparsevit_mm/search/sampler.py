"""NSGA-II over sparsity vectors: Optuna's selection and storage, operators made for ordered choices and a budget."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import NSGAIISampler
from optuna.study import StudyDirection

from ..sparsity import SparsitySpace

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ['SparsitySampler', 'distributions_of']

_CHILDREN = 64  # proposals by crossover and mutation before the space is sampled at random
_SAMPLES = 256  # random proposals before the space is walked through
_WALK = 200_000  # greatest space that is walked through


def distributions_of(space: SparsitySpace) -> dict[str, BaseDistribution]:
    """One parameter a site, named like the site, with the allowed sparsities as its choices.

    A vector has exactly one form as parameters, so that a repeated one is found by comparison and a dashboard
    shows sparsities instead of indices.
    """
    return {site: CategoricalDistribution(space.choices) for site in space.layout.sites}


class SparsitySampler(NSGAIISampler):
    """Optuna's NSGA-II with variation of our own.

    Generations, selection by rank and crowding, and their storage are Optuna's. What differs:

    - A child takes every site from one of two parents and is then sorted within each group. Sorting is the repair
      that makes sparsity non-decreasing; it keeps the child within the box that its parents span, so a group
      inherits what its parents agree on. (One gene for a whole group, an index into its multisets, would need no
      repair, but crossover could not mix the sites of a stage, and neighbouring genes would mean unlike settings.)
    - Mutation prefers the next choice up or down, since accuracy changes little by little along the choices.
    - Under a budget proposals are moved to its edge: made sparser at random sites while they cost too much, then
      less sparse while it allows. What is below the edge computes less than it may. On additive
      landscapes with interactions this mattered more than anything else: the best found came three to ten times
      as close to the true best as without, where NSGA-II lost even against random sampling.
    - Half of the tournaments are decided by accuracy alone. Under a budget only one end of the front is asked for.
    - Proposals that meet an objection (known already, surely over budget) are drawn again and never become trials.

    All randomness of a trial comes from the seed and the trial's number: a killed search needs no generator state
    to go on, and workers on one study do not propose the same.

    Args:
        space: The allowed settings.
        objection: Why a setting is not to be proposed, None where it may be; asked before every trial anew.
        guess: What a setting will probably cost. It only shapes proposals and decides nothing.
        limit: The budget in the unit of the guess, infinite without one.
        population_size: Number of evaluations in a generation.
        seed: Seed of the search.
    """

    def __init__(
        self,
        space: SparsitySpace,
        objection: Callable[[tuple[float, ...]], str | None],
        guess: Callable[[tuple[float, ...]], float],
        *,
        limit: float,
        population_size: int,
        seed: int,
    ) -> None:
        super().__init__(population_size=population_size, seed=seed)
        self.space = space
        self.objection = objection
        self.guess = guess
        self.limit = limit
        self.seed = seed
        self.exhausted = False
        self.rejected: Counter[str] = Counter()
        self._met: set[tuple[float, ...]] = set()
        self._distributions = distributions_of(space)
        self._index = {choice: i for i, choice in enumerate(space.choices)}

    def infer_relative_search_space(self, study: 'Study', trial: 'FrozenTrial') -> dict[str, BaseDistribution]:
        """All sites, from the first trial on."""
        return self._distributions

    def sample_relative(
        self, study: 'Study', trial: 'FrozenTrial', search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters of a trial.

        ``rejected`` counts the settings that were objected to on the way; ``exhausted`` is set where nothing is left
        to propose.
        """
        generation = self.get_trial_generation(study, trial)
        self.rejected, self._met, self.exhausted = Counter(), set(), False
        if 'fixed_params' in trial.system_attrs:  # enqueued
            return {}
        rng = random.Random(f'{self.seed}/{trial.number}')
        parents = self.get_parent_population(study, generation)
        proposals = chain(self._children(rng, parents, study.directions), self._samples(rng))
        vector = next(filter(self._accept, proposals), None) or next(self._rest(rng), None)
        if vector is None:
            self.exhausted = True
            vector = self.space.sample(rng)
        return dict(zip(self.space.layout.sites, vector))

    def _accept(self, vector: tuple[float, ...]) -> bool:
        objection = self.objection(vector)
        if objection and vector not in self._met:
            self._met.add(vector)
            self.rejected[objection] += 1
        return objection is None

    def _children(
        self, rng: random.Random, parents: Sequence['FrozenTrial'], directions: Sequence[StudyDirection]
    ) -> Iterator[tuple[float, ...]]:
        for _ in range(_CHILDREN if parents else 0):
            yield self._shape(rng, self._child(rng, parents, directions))

    def _samples(self, rng: random.Random) -> Iterator[tuple[float, ...]]:
        for _ in range(_SAMPLES):
            yield self._shape(rng, self.space.sample(rng))

    def _rest(self, rng: random.Random) -> Iterator[tuple[float, ...]]:
        """Everything that may be proposed, from a random place on; nothing in a space too great to walk through."""
        size = len(self.space)
        if size <= _WALK:
            start = rng.randrange(size)
            walk = chain(islice(self.space, start, None), islice(self.space, start))
            yield from (vector for vector in walk if self.objection(vector) is None)

    def _child(
        self, rng: random.Random, parents: Sequence['FrozenTrial'], directions: Sequence[StudyDirection]
    ) -> tuple[float, ...]:
        """Tournament, crossover, mutation and repair."""
        mother, father = (self._tournament(rng, parents, directions) for _ in range(2))
        sites = self.space.layout.sites
        genes = [self._index[rng.choice((mother, father)).params[site]] for site in sites]
        top = len(self.space.choices) - 1
        for i in range(len(genes)):
            if rng.random() < 1 / len(genes):
                step = rng.choice((-1, 1)) if rng.random() < 0.75 else rng.randint(-top, top)
                genes[i] = min(max(genes[i] + step, 0), top)
        for span in self.space.layout.spans:
            genes[span] = sorted(genes[span])
        return self._vector(genes)

    def _tournament(
        self, rng: random.Random, parents: Sequence['FrozenTrial'], directions: Sequence[StudyDirection]
    ) -> 'FrozenTrial':
        """The better of two drawn parents: by accuracy alone or by domination, the first one of equals."""
        one, other = rng.choice(parents), rng.choice(parents)
        signs = [-1 if direction == StudyDirection.MAXIMIZE else 1 for direction in directions]
        ours, theirs = ([sign * value for sign, value in zip(signs, trial.values)] for trial in (one, other))
        if math.isfinite(self.limit) and rng.random() < 0.5:
            return other if theirs[0] < ours[0] else one
        return other if all(a >= b for a, b in zip(ours, theirs)) and ours != theirs else one

    def _shape(self, rng: random.Random, vector: tuple[float, ...]) -> tuple[float, ...]:
        """Moves a setting to the edge of the budget by steps at random sites, where it allows any."""
        if math.isinf(self.limit):
            return vector
        genes = [self._index[value] for value in vector]
        while self.guess(self._vector(genes)) > self.limit and self._step(rng, genes, 1):
            pass
        while self._step(rng, genes, -1, within_limit=True):
            pass
        return self._vector(genes)

    def _step(self, rng: random.Random, genes: list[int], step: int, within_limit: bool = False) -> bool:
        """Changes one random gene by a step that keeps the groups in order; whether there was one to change."""
        places = [
            i for span in self.space.layout.spans for i in range(span.start, span.stop) if self._may(genes, i, step)
        ]
        rng.shuffle(places)
        for i in places:
            genes[i] += step
            if not within_limit or self.guess(self._vector(genes)) <= self.limit:
                return True
            genes[i] -= step
        return False

    def _may(self, genes: Sequence[int], i: int, step: int) -> bool:
        """Whether gene ``i`` can move by a step within the choices and the order of its group."""
        value, neighbour = genes[i] + step, i + step
        group = next(span for span in self.space.layout.spans if span.start <= i < span.stop)
        in_order = not group.start <= neighbour < group.stop or step * (genes[neighbour] - value) >= 0
        return in_order and 0 <= value < len(self.space.choices)

    def _vector(self, genes: Sequence[int]) -> tuple[float, ...]:
        return tuple(self.space.choices[gene] for gene in genes)
