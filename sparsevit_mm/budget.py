"""Budgets: the most that a setting may cost. Needs no torch."""

import math
import re
from dataclasses import dataclass
from numbers import Real

__all__ = ['Budget', 'format_cost']

_SUFFIXES = {
    's': {'ms': 1e-3, 's': 1.0, 'us': 1e-6},
    'MACs': {'M': 1e6, 'G': 1e9, 'T': 1e12, 'MMACs': 1e6, 'GMACs': 1e9, 'TMACs': 1e12, 'MACs': 1.0},
}


@dataclass(frozen=True)
class Budget:
    """The most that a setting may cost.

    Args:
        value: A fraction of the cost at sparsity 0, or an amount in the unit of the cost model.
        relative: Whether it is a fraction.

    Raises:
        ValueError: If a fraction leaves (0, 1] or an amount is not positive.
    """

    value: float
    relative: bool = True

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or self.value <= 0 or (self.relative and self.value > 1):
            raise ValueError(
                f'budget is {self.value}, but '
                + (
                    'a plain number is a fraction of the dense cost and must lie in (0, 1]. Write an absolute budget '
                    'with its unit, such as 30ms or 60G.'
                    if self.relative
                    else 'it must be a positive amount.'
                )
            )

    @classmethod
    def parse(cls, text: 'str | float | Budget', unit: str) -> 'Budget':
        """A budget from ``0.6``, ``'60%'``, ``'30ms'`` or ``'60G'``.

        Args:
            text: What the user wrote.
            unit: Unit of the cost model, which decides what suffixes mean something.

        Raises:
            ValueError: If it cannot be read.
        """
        if isinstance(text, Budget):
            return text
        if isinstance(text, Real) and not isinstance(text, bool):
            return cls(float(text))
        match = re.fullmatch(r'\s*([0-9.eE+-]+?)\s*([A-Za-z%]*)\s*', str(text))
        suffixes = _SUFFIXES[unit]
        try:
            number, suffix = float(match.group(1)), match.group(2)
            if suffix == '':
                return cls(number)
            if suffix == '%':
                return cls(number / 100)
            return cls(number * suffixes[suffix], relative=False)
        except (AttributeError, KeyError) as error:
            reason = error
        except ValueError as error:
            if 'budget' in str(error):
                raise
            reason = error
        raise ValueError(
            f'budget {text!r} cannot be read. Write a fraction of the dense cost such as 0.6, or an amount with one '
            f'of the units {", ".join(suffixes)} (costs are in {unit} here).'
        ) from reason

    def limit(self, dense: float) -> float:
        """The greatest allowed cost, in the unit of the dense one."""
        return self.value * dense if self.relative else self.value

    def check(self, dense: float, least: float, unit: str) -> float:
        """The limit, where a setting can keep it.

        Args:
            dense: Cost at sparsity 0.
            least: Least cost of any setting of the space.
            unit: Unit of both.

        Raises:
            ValueError: If even the sparsest setting is over budget.
        """
        limit = self.limit(dense)
        if least > limit:
            share = least / dense
            advice = (
                f'Give a budget of at least {_round_up(share)}, or allow sparser choices.'
                if share < 1
                else 'Sparsity saves nothing here: take larger images (--shape), another device, or count MACs.'
            )
            raise ValueError(
                f'budget {format_cost(limit, unit)} ({limit / dense:.3g} of dense) cannot be reached: the sparsest '
                f'setting costs {format_cost(least, unit)}, which is {share:.4g} of the dense '
                f'{format_cost(dense, unit)}. {advice}'
            )
        return limit


def _round_up(fraction: float) -> float:
    """The next fraction with three decimals, so that what a message names can be given as a budget."""
    return math.ceil(fraction * 1000 - 1e-9) / 1000


def format_cost(cost: float, unit: str) -> str:
    """A cost for people: milliseconds, or MACs with a prefix."""
    if unit == 's':
        return f'{cost * 1e3:.4g} ms'
    for prefix, factor in (('T', 1e12), ('G', 1e9), ('M', 1e6), ('k', 1e3)):
        if abs(cost) >= factor:
            return f'{cost / factor:.4g} {prefix}{unit}'
    return f'{cost:.4g} {unit}'
