"""Which settings of a space keep a budget: all of them costed at once, where their cost adds up."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement

import numpy as np

from ..sparsity import SparsitySpace

__all__ = ['CostedSpace', 'PartCosts', 'cost_space']

_ROWS = 500_000  # settings of one part that are listed
_DIRECT = 20_000  # settings that are costed one by one where nothing adds up
_ALL = 3_000_000  # settings whose costs are held in memory at once
_SAMPLES = 64  # settings on which it is checked that costs add up
_TOLERANCE = 1e-9

Vector = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class PartCosts:
    """The settings of some successive sites, and what they add to the cost.

    Args:
        choices: For each row the index of the choice of each site, ``[rows, sites]``.
        extra: What a row adds to the cost of the least sparse setting, ``[rows]``.
        down: For each row the least that it would cost more if one of its sites were one choice less sparse,
            ``[rows]``; infinite where none can be.
    """

    choices: np.ndarray
    extra: np.ndarray
    down: np.ndarray

    @classmethod
    def of(cls, choices: np.ndarray, extra: np.ndarray, groups: Sequence[int]) -> 'PartCosts':
        """Finds what the next less sparse settings cost more.

        Args:
            choices: As above.
            extra: As above.
            groups: Number of sites of each group in the part.
        """
        place = {row.tobytes(): i for i, row in enumerate(choices)}
        down = np.full(len(choices), np.inf)
        starts = {sum(groups[:i]) for i in range(len(groups))}
        for site in range(choices.shape[1]):
            may = choices[:, site] > 0
            if site not in starts:
                may &= choices[:, site] > choices[:, site - 1]
            lower = choices[may]
            lower[:, site] -= 1
            target = np.array([place[row.tobytes()] for row in lower], dtype=np.int64)
            down[may] = np.minimum(down[may], extra[target] - extra[may])
        return cls(choices, extra, down)


@dataclass(frozen=True, eq=False)
class CostedSpace:
    """A space whose settings are all costed, or as many as can be.

    Args:
        space: The allowed settings.
        cost: What one costs.
        base: Cost of the least sparse one.
        parts: Parts over which costs add up, None where they do not and the space is too large to cost one by one.
    """

    space: SparsitySpace
    cost: Callable[[Vector], float]
    base: float
    parts: tuple[PartCosts, ...] | None

    @cached_property
    def least(self) -> float:
        """The least cost of any setting; of the sparsest one where not all are costed."""
        if self.parts is None:
            return self.cost((self.space.choices[-1],) * len(self.space.layout.sites))
        return self.base + sum(float(part.extra.min()) for part in self.parts)

    @cached_property
    def greatest(self) -> float:
        """The greatest cost of any setting; of the least sparse one where not all are costed."""
        return self.base if self.parts is None else self.base + sum(float(part.extra.max()) for part in self.parts)

    def count_within(self, limit: float) -> int | None:
        """Number of settings that cost no more than a limit, None where they are not all costed.

        The greatest part is sorted, and every combination of the others looked up in it, so that 17.7 million settings
        of a Swin-L are counted as quickly as its 729 combinations of three stages.
        """
        if self.parts is None:
            return None
        if math.isinf(limit):
            return len(self.space)
        parts = sorted((part.extra for part in self.parts), key=len)
        others = _sums(parts[:-1])
        if others.size > _ALL:
            return None
        return int(np.searchsorted(np.sort(parts[-1]), limit - self.base - others, side='right').sum())

    def edge(self, limit: float) -> tuple[Vector, ...] | None:
        """The settings that use a limit up: within it, and with no site that could be one choice less sparse.

        What is not among them computes less than it may. None where the space is too large to list them.
        """
        if self.parts is None or len(self.space) > _ALL:
            return None
        costs = self.base + _sums([part.extra for part in self.parts])
        downs = _sums([part.down for part in self.parts], np.minimum)
        found = np.flatnonzero((costs <= limit) & (costs + downs > limit))
        rows = np.unravel_index(found, [len(part.extra) for part in self.parts])
        indices = np.concatenate([part.choices[row] for part, row in zip(self.parts, rows)], axis=1)
        return tuple(map(tuple, np.array(self.space.choices)[indices].tolist()))


def cost_space(space: SparsitySpace, cost: Callable[[Vector], float], seed: int = 0) -> CostedSpace:
    """Costs a space.

    Whether cost adds up over sites, or at least over stages, is tried out with random settings; only what does is
    costed in parts. A latency table adds up over sites, and so do the MACs of a Swin whose windows are left out;
    those of one that packs them over stages.

    Args:
        space: The allowed settings.
        cost: What one costs, exactly and at once.
        seed: Of the settings to try.
    """
    least_sparse = (space.choices[0],) * len(space.layout.sites)
    base = cost(least_sparse)
    generator = random.Random(seed)
    tried = [space.sample(generator) for _ in range(_SAMPLES)]
    wanted = [cost(vector) for vector in tried]
    for attempt in (_by_site, _by_group):
        parts = attempt(space, cost, base)
        if parts is not None and _agree(space, base, parts, tried, wanted):
            return CostedSpace(space, cost, base, parts)
    return CostedSpace(space, cost, base, _one_by_one(space, cost, base))


def _by_site(space: SparsitySpace, cost: Callable[[Vector], float], base: float) -> tuple[PartCosts, ...] | None:
    """Parts of a cost that adds up over sites."""
    if any(_size(space, size) > _ROWS for size in space.layout.groups):
        return None
    sites, parts = _site_costs(space, cost, base), []
    for span in space.layout.spans:
        rows = _rows(space, span.stop - span.start)
        extra = sum(site[column] for site, column in zip(sites[span], rows.T))
        parts.append(PartCosts.of(rows, extra, (rows.shape[1],)))
    return tuple(parts)


def _site_costs(space: SparsitySpace, cost: Callable[[Vector], float], base: float) -> list[np.ndarray]:
    """What each choice of each site adds, from settings in which the sites of a group are at one choice from it on."""
    sites, first = len(space.layout.sites), space.choices[0]
    result: list[np.ndarray] = [np.zeros(0)] * sites
    for span in space.layout.spans:
        later = np.full(len(space.choices), base)
        for i in reversed(range(span.start, span.stop)):
            sums = np.array(
                [
                    cost((first,) * i + (choice,) * (span.stop - i) + (first,) * (sites - span.stop))
                    for choice in space.choices
                ]
            )
            result[i] = sums - later
            later = sums
    return result


def _by_group(space: SparsitySpace, cost: Callable[[Vector], float], base: float) -> tuple[PartCosts, ...] | None:
    """Parts of a cost that adds up over groups."""
    if len(space.layout.groups) < 2 or any(_size(space, size) > _DIRECT for size in space.layout.groups):
        return None
    sites, first, parts = len(space.layout.sites), space.choices[0], []
    for span in space.layout.spans:
        rows = _rows(space, span.stop - span.start)
        settings = (tuple(space.choices[i] for i in row) for row in rows)
        extra = [cost((first,) * span.start + own + (first,) * (sites - span.stop)) - base for own in settings]
        parts.append(PartCosts.of(rows, np.array(extra), (rows.shape[1],)))
    return tuple(parts)


def _one_by_one(space: SparsitySpace, cost: Callable[[Vector], float], base: float) -> tuple[PartCosts, ...] | None:
    """A single part of all sites."""
    if len(space) > _DIRECT:
        return None
    settings = list(space)
    rows = _indices(space, settings)
    extra = np.array([cost(vector) - base for vector in settings])
    return (PartCosts.of(rows, extra, space.layout.groups),)


def _agree(
    space: SparsitySpace, base: float, parts: tuple[PartCosts, ...], tried: Sequence[Vector], wanted: Sequence[float]
) -> bool:
    """Whether the parts of some settings add up to their costs."""
    rows = _indices(space, tried)
    total = np.full(len(tried), base)
    for span, part in zip(space.layout.spans, parts):
        place = {row.tobytes(): i for i, row in enumerate(part.choices)}
        total += part.extra[[place[row.tobytes()] for row in rows[:, span]]]
    return bool(np.allclose(total, wanted, rtol=_TOLERANCE, atol=0.0))


def _indices(space: SparsitySpace, vectors: Sequence[Vector]) -> np.ndarray:
    """Indices of the choices of settings, ``[settings, sites]``."""
    index = {choice: i for i, choice in enumerate(space.choices)}
    return np.array([[index[value] for value in vector] for vector in vectors], dtype=np.uint8)


def _size(space: SparsitySpace, sites: int) -> int:
    return math.comb(len(space.choices) + sites - 1, sites)


def _rows(space: SparsitySpace, sites: int) -> np.ndarray:
    """Indices of choices of all settings of a group, in lexicographic order."""
    listed = combinations_with_replacement(range(len(space.choices)), sites)
    return np.array(list(listed), dtype=np.uint8)


def _sums(parts: Sequence[np.ndarray], combine: np.ufunc = np.add) -> np.ndarray:
    """All combinations of one value of each part, flat, the last part running fastest."""
    total = np.full(1, combine.identity if combine.identity is not None else np.inf)
    for part in parts:
        total = combine.outer(total, part).ravel()
    return total
