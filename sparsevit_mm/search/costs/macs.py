"""MACs as the cost of a setting."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...sparsity import DEFAULT_CHOICES

if TYPE_CHECKING:
    from torch import nn

__all__ = ['MacsCost']


class MacsCost:
    """Multiply-adds of one image, counted in closed form.

    Args:
        backbone: One of ours.
        shape: Height and width in pixels.
        choices: The allowed sparsities; counting does not depend on them.
    """

    name = 'macs'
    unit = 'MACs'

    def __init__(
        self, backbone: 'nn.Module', shape: tuple[int, int], *, choices: Sequence[float] = DEFAULT_CHOICES
    ) -> None:
        self.backbone, self.shape = backbone, (int(shape[0]), int(shape[1]))
        self._counted: dict[tuple[float, ...], float] = {}

    def calibrate(self, state: dict | None = None) -> dict:
        """The dense MACs; counted again, as it costs nothing."""
        return {'dense': self.cost(0.0)}

    def cost(self, sparsity: float | Sequence[float]) -> float:
        """MACs at a sparsity."""
        from ...cost import count_macs

        sparsity = self.backbone.sparsity_layout.normalize(sparsity)
        if sparsity not in self._counted:
            with _at(self.backbone, sparsity):
                self._counted[sparsity] = float(count_macs(self.backbone, self.shape))
        return self._counted[sparsity]

    def conditions(self) -> dict:
        """The size of the image."""
        return {'shape': list(self.shape)}

    def describe(self) -> dict[str, str]:
        """Lines for a report."""
        height, width = self.shape
        return {'MACs': f'counted in closed form for one image of {height}x{width} pixels'}

    def doubt(self) -> str | None:
        """Nothing: they are exact."""
        return None


@contextmanager
def _at(backbone: 'nn.Module', sparsity: Sequence[float]) -> Iterator[None]:
    """The backbone at a sparsity, for a while."""
    before = backbone.sparsity
    backbone.sparsity = sparsity
    try:
        yield
    finally:
        backbone.sparsity = before
