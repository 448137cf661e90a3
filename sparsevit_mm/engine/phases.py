"""Layer-to-phase training: sites are switched on from the last one back to the first (SPViT, arXiv 2112.13890).

What is planned here needs no model. :mod:`~sparsevit_mm.engine.trials` is its form without fixed lengths.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

from ..sparsity import SparsityLayout

__all__ = ['MODES', 'FixedPhases', 'Phase', 'merge_neighbours', 'parse_phases', 'plan_phases']

#: The part of its way that a site has gone when a part of the time is over.
MODES = {
    'linear': lambda part: part,
    'cosine': lambda part: (1 - math.cos(math.pi * part)) / 2,
}
OWNER = 'phases of SparsityScheduleHook'


@dataclass(frozen=True)
class Phase:
    """Sites that are switched on together.

    Args:
        sites: Their names; None, where a plan of all sites is asked for, stands for each site in turn.
        begin: First step, an epoch or iteration counted from 0.
        end: The step after the last one.
    """

    sites: tuple[str, ...] | None
    begin: int
    end: int

    def __str__(self) -> str:
        return f'that of {", ".join(self.sites)} is from {self.begin} to {self.end}'


@dataclass(frozen=True)
class FixedPhases:
    """Phases that fit a backbone.

    Args:
        layout: The sites.
        target: Sparsity of every site after its phase.
        phases: The phases in the order of time.
        mode: ``'step'`` takes a site to its target as its phase begins. ``'linear'`` and ``'cosine'`` lead it there:
            the first step of a phase is already above 0, the last one is trained at the target.
    """

    layout: SparsityLayout
    target: tuple[float, ...]
    phases: tuple[Phase, ...]
    mode: str

    @property
    def end(self) -> int:
        """The step from which on all sites are at their targets."""
        return max(phase.end for phase in self.phases)

    def sparsity_at(self, step: int) -> tuple[float, ...]:
        """The sparsity of a step, counted from 0."""
        parts = {site: self._part(phase, step) for phase in self.phases for site in phase.sites}
        # A product with 1 is exact; sites of one phase go the same part, so their order survives.
        return tuple(parts.get(site, 0.0) * target for site, target in zip(self.layout.sites, self.target))

    def _part(self, phase: Phase, step: int) -> float:
        if step < phase.begin:
            return 0.0
        if self.mode == 'step' or step >= phase.end:
            return 1.0
        return MODES[self.mode]((step - phase.begin + 1) / (phase.end - phase.begin))


def parse_phases(phases: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> tuple[Phase, ...]:
    """Phases as a user writes them.

    Args:
        phases: A dict with ``length`` (and ``begin``) for one phase a site. Or a sequence of dicts with ``sites``, a
            name or several, and ``length`` or ``end``; ``begin`` is where the one before ends if it is not given.

    Raises:
        ValueError: If they cannot be read, are empty, overlap, or name a site twice.
    """
    if isinstance(phases, Mapping):
        return (_parse(phases, {'length', 'begin'}, 0, None),)
    if isinstance(phases, str) or not isinstance(phases, Sequence) or not phases:
        raise ValueError(
            f'{OWNER} must be a dict with length or tolerance, or a list of dicts with sites and length, such as '
            f"[dict(sites='block9', length=2), dict(sites='block6', length=2)], got {phases!r}."
        )
    parsed: list[Phase] = []
    for phase in phases:
        sites = phase.get('sites') if isinstance(phase, Mapping) else None
        sites = (sites,) if isinstance(sites, str) else sites
        if not isinstance(sites, Sequence) or not sites or not all(isinstance(site, str) for site in sites):
            raise ValueError(
                f"each of the {OWNER} must be a dict with sites, a name such as 'block9' or several, got {phase!r}."
            )
        begin = parsed[-1].end if parsed else 0
        parsed.append(_parse(phase, {'sites', 'length', 'begin', 'end'}, begin, tuple(sites)))
    _check(parsed)
    return tuple(sorted(parsed, key=lambda phase: phase.begin))


def _parse(phase: Mapping[str, Any], known: set[str], begin: int, sites: tuple[str, ...] | None) -> Phase:
    if unknown := sorted(set(phase) - known):
        raise ValueError(f'{OWNER} have no {", ".join(unknown)}: {dict(phase)!r} may have {", ".join(sorted(known))}.')
    if ('length' in phase) == ('end' in phase):
        either = 'either length or end' if 'end' in known else 'length'
        raise ValueError(f'{OWNER} need {either}, a number of epochs or iterations, got {dict(phase)!r}.')
    begin = phase.get('begin', begin)
    for option, least in (('begin', 0), ('length', 1), ('end', 1)):
        value = phase.get(option, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f'{option} in {OWNER} must be an integer from {least} on, got {value!r}.')
    end = phase['end'] if 'end' in phase else begin + phase['length']
    if end <= begin:
        raise ValueError(f'end={end} in {OWNER} must be greater than begin={begin} of {", ".join(sites)}.')
    return Phase(sites, begin, end)


def _check(phases: list[Phase]) -> None:
    names = [site for phase in phases for site in phase.sites]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f'{OWNER} name {", ".join(twice)} more than once: a site is switched on in one phase.')
    for earlier, later in pairwise(sorted(phases, key=lambda phase: phase.begin)):
        if later.begin < earlier.end:
            raise ValueError(
                f'{OWNER} overlap: {earlier}, {later}. Let each begin where the one before ends, or later; sites of '
                f'one phase are switched on together.'
            )


def plan_phases(
    layout: SparsityLayout, target: Sequence[float], phases: tuple[Phase, ...], mode: str, merge: float = 0.0
) -> FixedPhases:
    """Fit phases to a backbone.

    Args:
        layout: The sites.
        target: Sparsity of every site at the end.
        phases: What :func:`parse_phases` gave.
        mode: As of :class:`FixedPhases`.
        merge: Neighbours that differ by less become one: they are switched on together.

    Raises:
        ValueError: If the phases name sites that there are not, leave out one that is not dense, or do not go from the
            last site of a group back to its first.
    """
    merged, runs = merge_neighbours(layout, target, merge)
    runs = [[layout.sites[i] for i in run] for run in runs]
    if phases[0].sites is None:
        begin, length = phases[0].begin, phases[0].end - phases[0].begin
        order = [run for run in reversed(runs) if merged[layout.sites.index(run[-1])] > 0]
        phases = tuple(
            Phase(tuple(run), begin + i * length, begin + (i + 1) * length) for i, run in enumerate(order)
        )  # fmt: skip
        return FixedPhases(layout, merged, phases, mode)
    at = {site: i for i, phase in enumerate(phases) for site in phase.sites}
    _check_sites(layout, target, phases, at)
    # An earlier site of a run joins the last one, whose phase comes first.
    together = {site: at[run[-1]] for run in runs for site in run if run[-1] in at}
    grouped = [tuple(site for site in layout.sites if together.get(site) == i) for i in range(len(phases))]
    kept = [Phase(sites, phase.begin, phase.end) for sites, phase in zip(grouped, phases) if sites]
    return FixedPhases(layout, merged, tuple(kept), mode)


def _check_sites(layout: SparsityLayout, target: Sequence[float], phases: tuple[Phase, ...], at: dict) -> None:
    listed = f'the sites are {", ".join(layout.sites)}'
    if unknown := [site for site in at if site not in layout.sites]:
        raise ValueError(f'{OWNER} name {", ".join(unknown)}, which the backbone has not: {listed}.')
    if left := [site for site, value in zip(layout.sites, target) if value > 0 and site not in at]:
        raise ValueError(f'{OWNER} leave out {", ".join(left)}, whose sparsity is not 0. Give each a phase: {listed}.')
    for span in layout.spans:
        named = [site for site in layout.sites[span] if site in at]
        for first, second in pairwise(named):
            if at[first] < at[second]:
                raise ValueError(
                    f'{OWNER} must go from the last site of a stage back to its first, since sparsity does not '
                    f'decrease with depth, but {first} comes before {second}: {phases[at[first]]}, '
                    f'{phases[at[second]]}.'
                )


def merge_neighbours(
    layout: SparsityLayout, sparsity: Sequence[float], merge: float
) -> tuple[tuple[float, ...], list[tuple[int, ...]]]:
    """Makes neighbours one whose sparsity is nearly the same, as SPViT does below 0.085.

    All of them take their mean, so that those after the first leave out nothing new. From the last site of a group on,
    neighbours join as long as all that joined differ by less than the threshold. Dense sites stay by themselves.

    Args:
        layout: The sites.
        sparsity: One value a site, non-decreasing within a group.
        merge: The threshold; 0 merges nothing.

    Returns:
        The sparsity, and the positions of the sites that became one, in the order of the sites.
    """
    runs: list[list[int]] = []
    for span in layout.spans:
        found: list[list[int]] = []
        for i in reversed(range(span.start, span.stop)):
            if found and sparsity[i] > 0 and sparsity[found[-1][-1]] - sparsity[i] < merge:
                found[-1].insert(0, i)
            else:
                found.append([i])
        runs += reversed(found)
    values = [0.0] * len(layout.sites)
    for run in runs:
        parts = [sparsity[i] for i in run]
        for i in run:
            values[i] = min(max(fmean(parts), parts[0]), parts[-1])  # a mean may be rounded beyond equal values
    return tuple(values), [tuple(run) for run in runs]
