"""The vocabulary of the package: sites, their sparsity, and how many units a sparsity keeps.

Nothing here needs torch, so that a search can be planned on a machine without it.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement, product
from numbers import Real

__all__ = ['DEFAULT_CHOICES', 'SparsityLayout', 'SparsitySpace', 'keep_count']

# SparseViT draws from these nine (tools/train.py of the release).
DEFAULT_CHOICES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def keep_count(num_units: int, sparsity: float) -> int:
    """Number of units that stay at a sparsity: ``max(1, floor(n * (1 - sparsity) + 1e-6))``.

    The floor is SparseViT's (its published MACs follow from it); the small addend undoes float
    products such as ``260 * (1 - .8) = 51.999...``.
    """
    return max(1, math.floor(num_units * (1 - sparsity) + 1e-6))


@dataclass(frozen=True)
class SparsityLayout:
    """The sites of a backbone, and which of them belong to one stage.

    Args:
        sites: Names of the sites in the order of the forward pass.
        groups: Number of successive sites in each group. Within a group sparsity never decreases.
    """

    sites: tuple[str, ...]
    groups: tuple[int, ...]

    def __post_init__(self) -> None:
        assert sum(self.groups) == len(self.sites), f'groups {self.groups} do not add up to {len(self.sites)} sites'

    @cached_property
    def spans(self) -> tuple[slice, ...]:
        """The slice of every group in a sparsity vector."""
        ends = [sum(self.groups[: i + 1]) for i in range(len(self.groups))]
        return tuple(slice(end - size, end) for end, size in zip(ends, self.groups))

    def normalize(self, sparsity: float | Sequence[float]) -> tuple[float, ...]:
        """One float a site, from one float for all of them or from a sequence.

        Raises:
            ValueError: On a wrong type, length or range, on NaN, and where sparsity decreases
                within a group.
        """
        if isinstance(sparsity, Real) and not isinstance(sparsity, bool):
            sparsity = [sparsity] * len(self.sites)
        listed = f'the sites are {", ".join(self.sites)}' if self.sites else 'the backbone has no sites'
        if isinstance(sparsity, str | bytes) or not isinstance(sparsity, Sequence):
            try:
                sparsity = list(sparsity)  # arrays and tensors
            except TypeError:
                sparsity = None
        if sparsity is None or not all(isinstance(s, Real) and not isinstance(s, bool) for s in map(_plain, sparsity)):
            raise ValueError(
                f'sparsity must be a float for all sites or a sequence with a float a site, got {sparsity!r}; {listed}.'
            )
        values = tuple(float(s) for s in sparsity)
        if len(values) != len(self.sites):
            raise ValueError(
                f'sparsity has {len(values)} values {values}, but the backbone has {len(self.sites)} sites: '
                f'{listed}. Give one value for all of them or {len(self.sites)} values.'
            )
        for site, value in zip(self.sites, values):
            if not 0 <= value < 1:  # NaN fails too
                raise ValueError(
                    f'sparsity of {site} is {value}, but it must lie in [0, 1): it is the fraction of units that '
                    f'are not computed, and at least one stays.'
                )
        for span in self.spans:
            group = values[span]
            for i in range(1, len(group)):
                if group[i] < group[i - 1]:
                    names = self.sites[span]
                    raise ValueError(
                        f'sparsity must not decrease within a stage, but {names[i]} has {group[i]} after '
                        f'{names[i - 1]} with {group[i - 1]}: a later site keeps a part of what an earlier one kept. '
                        f'Sort the values of {", ".join(names)} in ascending order.'
                    )
        return values


def _plain(value):
    """A NumPy or torch scalar as a Python number, anything else as it is."""
    return value.item() if hasattr(value, 'item') and getattr(value, 'ndim', 0) == 0 else value


@dataclass(frozen=True)
class SparsitySpace:
    """All sparsity vectors of a layout over a set of choices: what adaptation draws from and the search searches.

    Within a group a vector is non-decreasing, so a group of ``k`` sites over ``m`` choices has
    ``C(m + k - 1, k)`` settings. For Swin-T and the nine published choices that gives 9^3 * 165 = 120,285.

    Args:
        layout: The sites.
        choices: Allowed values, the same for every site.

    Raises:
        ValueError: If the choices are empty, repeat, or leave [0, 1).
    """

    layout: SparsityLayout
    choices: tuple[float, ...] = DEFAULT_CHOICES

    def __post_init__(self) -> None:
        choices = tuple(sorted(float(c) for c in self.choices))
        if not choices or len(set(choices)) != len(choices) or not all(0 <= c < 1 for c in choices):
            raise ValueError(f'choices must be distinct values in [0, 1), at least one, got {tuple(self.choices)}.')
        object.__setattr__(self, 'choices', choices)

    def __len__(self) -> int:
        return math.prod(math.comb(len(self.choices) + size - 1, size) for size in self.layout.groups)

    def __iter__(self) -> Iterator[tuple[float, ...]]:
        groups = (combinations_with_replacement(self.choices, size) for size in self.layout.groups)
        for parts in product(*groups):
            yield tuple(value for part in parts for value in part)

    def __contains__(self, sparsity: object) -> bool:
        try:
            values = self.layout.normalize(sparsity)
        except ValueError:
            return False
        return all(value in self.choices for value in values)

    def sample(self, rng: random.Random) -> tuple[float, ...]:
        """A vector drawn uniformly over all that are allowed.

        SparseViT draws every site by itself and sorts, which favours mixed vectors; here every allowed
        vector is equally likely. A multiset of ``k`` out of ``m`` choices is a subset of ``k`` out of
        ``m + k - 1`` (stars and bars).
        """
        values: list[float] = []
        for size in self.layout.groups:
            picks = sorted(rng.sample(range(len(self.choices) + size - 1), size))
            values += [self.choices[pick - i] for i, pick in enumerate(picks)]
        return tuple(values)

    def uniform(self) -> list[tuple[float, ...]]:
        """The vectors with the same sparsity at every site, from the lowest on."""
        return [(choice,) * len(self.layout.sites) for choice in self.choices]
