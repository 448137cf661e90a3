"""What latency tables are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

__all__ = ['CheckedSetting', 'SiteLatency', 'check_choices']


@dataclass(frozen=True)
class SiteLatency:
    """Seconds that a site takes at each choice.

    Args:
        median: One value a choice.
        q1: Lower quartiles; None where the spread is not known.
        q3: Upper quartiles, likewise.
    """

    median: tuple[float, ...]
    q1: tuple[float, ...] | None = None
    q3: tuple[float, ...] | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'SiteLatency':
        """From a file, where the spread may be missing."""
        spread = (tuple(map(float, values.get(name) or ())) or None for name in ('q1', 'q3'))
        return cls(tuple(map(float, values['median'])), *spread)


@dataclass(frozen=True)
class CheckedSetting:
    """A setting that was measured and predicted.

    Args:
        sparsity: One float a site.
        measured: Seconds of the whole backbone, without stamps in between.
        predicted: Seconds by the table.
    """

    sparsity: tuple[float, ...]
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """The prediction over what was measured, minus 1."""
        return self.predicted / self.measured - 1

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'CheckedSetting':
        """From a file."""
        return cls(tuple(map(float, values['sparsity'])), float(values['measured']), float(values['predicted']))


def check_choices(choices: Sequence[float]) -> None:
    """See that a table can have these sparsities.

    Raises:
        ValueError: If they do not ascend from 0, or leave [0, 1).
    """
    ascend = all(before < after for before, after in pairwise(choices))
    if len(choices) < 2 or choices[0] != 0 or not ascend or not choices[-1] < 1:
        raise ValueError(
            f'choices of a latency table must ascend from 0 to less than 1, at least two of them, such as '
            f'(0, 0.3, 0.6); got {tuple(choices)}.'
        )
