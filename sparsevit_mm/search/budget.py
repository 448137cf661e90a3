"""What a cost model must offer to be searched under a budget."""

from collections.abc import Sequence
from typing import Protocol

from ..budget import Budget, format_cost

__all__ = ['Budget', 'CostModel', 'format_cost']


class CostModel(Protocol):
    """The cost of a setting, as the search needs it: known at once and free of noise, for any setting of the space.

    Attributes:
        name: What is counted, ``'macs'`` or ``'latency'``.
        unit: ``'MACs'`` or ``'s'``.
    """

    name: str
    unit: str

    def calibrate(self, state: dict | None = None) -> dict:
        """Finds out what costs rest on, or takes it over from a study.

        Args:
            state: What an earlier call returned and the study stored, None for a new study.

        Returns:
            A dictionary that JSON can hold, with at least ``dense``, the cost at sparsity 0.
        """

    def cost(self, sparsity: Sequence[float]) -> float:
        """The cost at one float a site, comparable with ``dense``. Nothing is measured for it."""

    def conditions(self) -> dict:
        """What the cost holds for (shape, dtype, ...): JSON data, compared when a study is resumed or joined."""
