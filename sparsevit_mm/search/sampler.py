"""NSGA-II over sparsity vectors: Optuna's selection and storage, operators made for ordered choices."""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
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
_SAMPLES = 512  # random proposals before the space is walked through
_WALK = 200_000  # greatest space that is walked through


def distributions_of(space: SparsitySpace) -> dict[str, BaseDistribution]:
    """One parameter a site, named like the site, with the allowed sparsities as its choices.

    A vector has exactly one form as parameters, so that a repeated one is found by comparison and a dashboard
    shows sparsities instead of indices.
    """
    return {site: CategoricalDistribution(space.choices) for site in space.layout.sites}


class SparsitySampler(NSGAIISampler):
    """Optuna's NSGA-II with variation of our own.

    Generations, selection by rank and crowding, and their storage are Optuna's. A child takes every site from one
    of two parents and is then sorted within each group. Sorting is the repair that makes sparsity non-decreasing;
    it keeps the child within the box that its parents span, so a group inherits what its parents agree on. (One
    gene for a whole group, an index into its multisets, would need no repair, but crossover could not mix the
    sites of a stage, and neighbouring genes would mean unlike settings.) Mutation prefers the next choice up or
    down over any other, since accuracy changes little by little along the choices.

    Proposals that are not acceptable (known already, or surely over budget) are drawn again and never become
    trials. All randomness of a trial comes from the seed and the trial's number: a killed search needs no
    generator state to go on, and workers on one study do not propose the same.

    Args:
        space: The allowed settings.
        acceptable: Whether a setting is worth proposing; called before every trial anew.
        population_size: Number of evaluations in a generation.
        seed: Seed of the search.
    """

    def __init__(
        self,
        space: SparsitySpace,
        acceptable: Callable[[tuple[float, ...]], bool],
        *,
        population_size: int,
        seed: int,
    ) -> None:
        super().__init__(population_size=population_size, seed=seed)
        self.space = space
        self.acceptable = acceptable
        self.seed = seed
        self.exhausted = False
        self.rejected = 0
        self._distributions = distributions_of(space)
        self._index = {choice: i for i, choice in enumerate(space.choices)}

    def infer_relative_search_space(self, study: 'Study', trial: 'FrozenTrial') -> dict[str, BaseDistribution]:
        """All sites, from the first trial on."""
        return self._distributions

    def sample_relative(
        self, study: 'Study', trial: 'FrozenTrial', search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters of a trial; ``exhausted`` is set where nothing acceptable is left to propose."""
        generation = self.get_trial_generation(study, trial)
        self.rejected, self.exhausted = 0, False
        if 'fixed_params' in trial.system_attrs:  # enqueued
            return {}
        rng = random.Random(f'{self.seed}/{trial.number}')
        parents = self.get_parent_population(study, generation)
        vector = next(filter(self._accept, self._proposals(rng, parents, study.directions)), None)
        if vector is None:
            self.exhausted = True
            vector = self.space.sample(rng)
        return dict(zip(self.space.layout.sites, vector))

    def _accept(self, vector: tuple[float, ...]) -> bool:
        accepted = self.acceptable(vector)
        self.rejected += not accepted
        return accepted

    def _proposals(
        self, rng: random.Random, parents: Sequence['FrozenTrial'], directions: Sequence[StudyDirection]
    ) -> Iterator[tuple[float, ...]]:
        """Children first, then random settings, then, in a space of moderate size, every one that there is."""
        if parents:
            for _ in range(_CHILDREN):
                yield self.child(rng, parents, directions)
        for _ in range(_SAMPLES):
            yield self.space.sample(rng)
        size = len(self.space)
        if size <= _WALK:
            start = rng.randrange(size)
            yield from islice(self.space, start, None)
            yield from islice(self.space, start)

    def child(
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
        return tuple(self.space.choices[gene] for gene in genes)

    @staticmethod
    def _tournament(
        rng: random.Random, parents: Sequence['FrozenTrial'], directions: Sequence[StudyDirection]
    ) -> 'FrozenTrial':
        """The better of two drawn parents, the first of two that do not dominate each other."""
        one, other = rng.choice(parents), rng.choice(parents)
        signs = [-1 if direction == StudyDirection.MAXIMIZE else 1 for direction in directions]
        ours, theirs = ([sign * value for sign, value in zip(signs, trial.values)] for trial in (one, other))
        return other if all(a >= b for a, b in zip(ours, theirs)) and ours != theirs else one
