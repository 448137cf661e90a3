"""What a cost model must offer to be searched under a budget."""

from collections.abc import Sequence
from typing import Protocol

from ..budget import Budget, format_cost

__all__ = ['Budget', 'CostModel', 'format_cost']


class CostModel(Protocol):
    """The cost of a setting, as the search needs it.

    Attributes:
        name: What is counted, ``'macs'`` or ``'latency'``.
        unit: ``'MACs'`` or ``'s'``.
        exact: Whether a cost is free of noise and so cheap that the search may ask for any setting.
            Otherwise only settings that are proposed are costed, each one once a study.
        tolerance: Relative uncertainty of a cost, 0 for exact models.
    """

    name: str
    unit: str
    exact: bool
    tolerance: float

    def calibrate(self, state: dict | None = None) -> dict:
        """Finds the cost at sparsity 0 and the least cost, or takes them over from a study.

        Args:
            state: What an earlier call returned and the study stored, None for a new study.

        Returns:
            A dictionary that JSON can hold, with at least ``dense`` and ``least``.
        """

    def cost(self, sparsity: Sequence[float]) -> float:
        """The cost at one float a site, comparable with ``dense``."""

    def estimate(self, sparsity: Sequence[float]) -> float:
        """What it will probably cost, at once and without a measurement; the cost itself for exact models."""

    def conditions(self) -> dict:
        """What the cost holds for (device, shape, ...): JSON data, compared when a study is resumed."""
