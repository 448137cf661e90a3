"""What holds of the claims, and by how much."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from ..plan import Claim
from .rows import ResultRow

__all__ = ['Verdict', 'judge']


@dataclass(frozen=True)
class Verdict:
    """A claim and what was found.

    Args:
        claim: The claim.
        differences: Of the metric, one for each seed that both rows have.
        latencies: Of the backbones of both, as fractions of dense, means over those seeds; None where one has
            none. They tell how equal the latencies were that the rows were made for.
    """

    claim: Claim
    differences: tuple[float, ...]
    latencies: tuple[float, float] | None = None

    @property
    def mean(self) -> float | None:
        """Over the seeds; None where there are none."""
        return mean(self.differences) if self.differences else None

    @property
    def word(self) -> str:
        """``holds`` if all seeds say so, ``holds on average`` if the mean does, ``does not hold`` or ``not known``."""
        if not self.differences:
            return 'not known'
        if min(self.differences) >= self.claim.least:
            return 'holds'
        return 'holds on average' if self.mean >= self.claim.least else 'does not hold'


def judge(claims: Sequence[Claim], rows: Sequence[ResultRow]) -> list[Verdict]:
    """Compares rows seed by seed: both have started from the same weights there, where they share any."""
    verdicts = []
    for claim in claims:
        of, against = _find(rows, claim.of, claim.budget), _find(rows, claim.against, claim.budget)
        seeds = sorted(set(of.metrics) & set(against.metrics)) if of and against else []
        differences = tuple(of.metrics[seed] - against.metrics[seed] for seed in seeds)
        timed = [seed for seed in seeds if seed in of.backbone and seed in against.backbone]
        latencies = tuple(mean(row.backbone[seed] for seed in timed) for row in (of, against)) if timed else None
        verdicts.append(Verdict(claim, differences, latencies))
    return verdicts


def _find(rows: Sequence[ResultRow], label: str, budget: float | None) -> ResultRow | None:
    """The row of this budget, or one without a budget."""
    own = [row for row in rows if row.label == label]
    return next((row for wanted in (budget, None) for row in own if row.budget == wanted), None)
