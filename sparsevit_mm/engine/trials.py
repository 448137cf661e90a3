"""Layer-to-phase training by a tolerated drop of the validation metric (SPViT, arXiv 2112.13890)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from ..search.metrics import higher_is_better
from ..sparsity import SparsityLayout
from .phases import OWNER, merge_neighbours

__all__ = ['ToleratedDrop', 'TrialPlan', 'TrialState']


@dataclass(frozen=True)
class ToleratedDrop:
    """How far the metric may fall, and how sparsity goes up to there.

    Args:
        tolerance: The greatest drop against the reference, in the unit of the metric: 0.5 for an mIoU in percent is
            0.005 for a COCO AP, which lies between 0 and 1.
        metric: Name of the metric, as the evaluator gives it; a prefix may be left out where that is unambiguous.
        step: By how much the sparsity of a site rises at once.
        patience: How many more validations a value out of tolerance gets before it is given up.
        reference: The metric of the dense model; None measures it before training.
        higher_is_better: Whether the metric grows with quality; None tells by its name.

    Raises:
        ValueError: If an option is not valid.
    """

    tolerance: float
    metric: str
    step: float = 0.1
    patience: int = 0
    reference: float | None = None
    higher_is_better: bool | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.tolerance) or self.tolerance < 0:
            raise ValueError(f'tolerance in {OWNER} must be a number from 0 on, got {self.tolerance!r}.')
        if not isinstance(self.metric, str) or not self.metric:
            raise ValueError(
                f'metric in {OWNER} must name the number of the evaluator that may drop by tolerance, such as '
                f"'mIoU' or 'coco/bbox_mAP', got {self.metric!r}."
            )
        if not _is_number(self.step) or not 0 < self.step < 1:
            raise ValueError(f'step in {OWNER} must lie in (0, 1), got {self.step!r}.')
        if isinstance(self.patience, bool) or not isinstance(self.patience, int) or self.patience < 0:
            raise ValueError(f'patience in {OWNER} must be an integer from 0 on, got {self.patience!r}.')
        if self.reference is not None and not _is_number(self.reference):
            raise ValueError(f'reference in {OWNER} must be the metric of the dense model, got {self.reference!r}.')
        if self.higher_is_better not in (None, True, False):
            raise ValueError(f'higher_is_better in {OWNER} must be True, False or None, got {self.higher_is_better!r}.')

    @classmethod
    def parse(cls, phases: Mapping[str, Any]) -> 'ToleratedDrop':
        """Options as a user writes them.

        Raises:
            ValueError: If one is unknown, missing or not valid.
        """
        if unknown := sorted(set(phases) - set(cls.__dataclass_fields__)):
            raise ValueError(
                f'{OWNER} have no {", ".join(unknown)}: with tolerance they may have '
                f'{", ".join(cls.__dataclass_fields__)}.'
            )
        return cls(**{'metric': None, **phases})

    def allows(self, metric: str, reference: float, value: float) -> bool:
        """Whether a value is within tolerance; NaN is not."""
        higher = higher_is_better(metric) if self.higher_is_better is None else self.higher_is_better
        drop = reference - value if higher else value - reference
        return drop <= self.tolerance + 1e-9 * max(1.0, abs(reference))  # 0.412 - 0.407 is more than 0.005


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class TrialState:
    """Where a training stands.

    Args:
        metric: Full name of the metric.
        reference: The metric of the dense model.
        accepted: The highest sparsity of every site that was within tolerance.
        done: The epochs or iterations that were done at the last decision.
        site: Position of the site whose phase it is; None when all are over.
        trial: The sparsity that this site is trained at.
        misses: How many validations of it were out of tolerance.
        history: What was decided: ``done``, ``site``, ``sparsity``, ``value`` of the metric and ``accepted``.
    """

    metric: str
    reference: float
    accepted: tuple[float, ...]
    done: int = 0
    site: int | None = None
    trial: float = 0.0
    misses: int = 0
    history: tuple[dict[str, Any], ...] = ()

    @property
    def sparsity(self) -> tuple[float, ...]:
        """What the model is trained and validated at."""
        return tuple(self.trial if i == self.site else value for i, value in enumerate(self.accepted))

    @property
    def is_over(self) -> bool:
        """Whether there is no site left to try."""
        return self.site is None


@dataclass(frozen=True)
class TrialPlan:
    """One phase a site, from the last one back to the first.

    In its phase the sparsity of a site rises by a step after each validation that is within tolerance. The phase ends
    with the first one that is not, and the site stays at the last value that was; or when it has reached its
    target. A site cannot be sparser than the next one of its group, since what it leaves out is left out there too.

    Args:
        layout: The sites.
        target: The most that each site may take.
        options: Tolerance and steps.
        merge: When all phases are over, neighbours that differ by less become one.
    """

    layout: SparsityLayout
    target: tuple[float, ...]
    options: ToleratedDrop
    merge: float = 0.0

    @property
    def most_validations(self) -> int:
        """How many are needed where all are within tolerance."""
        return sum(math.ceil(target / self.options.step - 1e-6) for target in self.target)

    def begin(self, metric: str, reference: float, done: int = 0) -> TrialState:
        """The state before the first step.

        Args:
            metric: Its name.
            reference: Its value for the dense model.
            done: The epochs or iterations that are done.

        Raises:
            ValueError: If the reference is NaN or infinite.
        """
        if not math.isfinite(reference):
            raise ValueError(f'{metric} of the dense model is {reference}, to which nothing can be compared.')
        return self._go_on(TrialState(metric, reference, (0.0,) * len(self.target), done), len(self.target))

    def decide(self, state: TrialState, value: float, done: int = 0) -> TrialState:
        """The state after a validation.

        Args:
            state: The state before it, whose ``sparsity`` was validated.
            value: The metric.
            done: The epochs or iterations that are done.
        """
        if state.is_over:
            return replace(state, done=done)
        site, trial = state.site, state.trial
        within = self.options.allows(state.metric, state.reference, value)
        record = dict(done=done, site=self.layout.sites[site], sparsity=trial, value=value, accepted=within)
        state = replace(state, done=done, history=(*state.history, record))
        if not within:
            if state.misses < self.options.patience:
                return replace(state, misses=state.misses + 1)
            return self._go_on(state, site)
        state = replace(state, accepted=(*state.accepted[:site], trial, *state.accepted[site + 1 :]), misses=0)
        most = self._most(state, site)
        if trial >= most:
            return self._go_on(state, site)
        return replace(state, trial=min(round(trial + self.options.step, 10), most))

    def _go_on(self, state: TrialState, before: int) -> TrialState:
        """Begin the phase of the last site before a position, or end them all."""
        for site in reversed(range(before)):
            if (most := self._most(state, site)) > 0:
                return replace(state, site=site, trial=min(self.options.step, most), misses=0)
        merged, _ = merge_neighbours(self.layout, state.accepted, self.merge)
        return replace(state, site=None, trial=0.0, misses=0, accepted=merged)

    def _most(self, state: TrialState, site: int) -> float:
        next_in_group = any(span.start <= site < span.stop - 1 for span in self.layout.spans)
        return min(self.target[site], state.accepted[site + 1]) if next_in_group else self.target[site]

    def is_merged(self, state: TrialState) -> bool:
        """Whether neighbours have become one since the last validation decided something."""
        found = {record['site']: record['sparsity'] for record in state.history if record['accepted']}
        return state.is_over and state.accepted != tuple(found.get(site, 0.0) for site in self.layout.sites)

    def dump(self, state: TrialState) -> dict[str, Any]:
        """A state in plain containers, as checkpoints may hold it."""
        return dict(
            sites=list(self.layout.sites),
            target=list(self.target),
            metric=state.metric,
            reference=state.reference,
            accepted=list(state.accepted),
            done=state.done,
            site=state.site,
            trial=state.trial,
            misses=state.misses,
            history=[dict(record) for record in state.history],
        )

    def load(self, plain: Mapping[str, Any]) -> TrialState:
        """The state that :meth:`dump` wrote.

        Raises:
            ValueError: If it belongs to other sites or targets.
        """
        for name, own in (('sites', self.layout.sites), ('target', self.target)):
            if list(own) != list(plain[name]):
                raise ValueError(
                    f'the run that is resumed has {OWNER} with {name} {_listed(plain[name])}, this one with '
                    f'{_listed(own)}: give the same, or start a new training with load_from.'
                )
        state = {key: plain[key] for key in TrialState.__dataclass_fields__}
        return TrialState(**state | dict(accepted=tuple(plain['accepted']), history=tuple(plain['history'])))


def _listed(values: Sequence[Any]) -> str:
    return ', '.join(map(str, values))
