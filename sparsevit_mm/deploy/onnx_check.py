"""Whether a graph computes what the model computes, on images."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .onnx_run import OnnxSession

__all__ = ['TOLERANCE', 'GraphCheck', 'check_graph']

TOLERANCE = 1e-3
KEPT = 'kept.'


@dataclass(frozen=True)
class GraphCheck:
    """What a comparison of a graph with its model found.

    Args:
        images: How many were compared.
        errors: For each tensor the greatest absolute difference.
        kept: For each block that leaves something out, the share of its units that both keep.
    """

    images: int
    errors: dict[str, float]
    kept: dict[str, float]

    @property
    def same_units(self) -> bool:
        """Whether every block keeps the same units."""
        return all(share == 1 for share in self.kept.values())

    @property
    def passed(self) -> bool:
        """Whether the graph computes the same within ``TOLERANCE``, of the same units."""
        return self.same_units and max(self.errors.values()) <= TOLERANCE

    def sentence(self) -> str:
        """For people."""
        name, worst = max(self.errors.items(), key=lambda item: item[1])
        count = f'{self.images} image{"s" * (self.images != 1)}'
        text = f'Checked on {count} against torch: greatest difference {worst:.1e}, in {name}'
        if not self.kept:
            return f'{text}; nothing is left out at this sparsity.'
        if self.same_units:
            return f'{text}; the same units are kept at all {len(self.kept)} blocks that leave some out.'
        block, share = min(self.kept.items(), key=lambda item: item[1])
        return (
            f'{text}; other units are kept, at least at {block}, where {share:.1%} are the same. Scores that differ by '
            f'rounding alone may change places; where many do, the graph is wrong.'
        )


@torch.no_grad()
def check_graph(part: nn.Module, session: OnnxSession, batches: Sequence[Tensor]) -> GraphCheck:
    """Run both on the same images.

    Args:
        part: The module that the graph was made of, in evaluation mode.
        session: The graph.
        batches: ``[B, 3, H, W]`` each.
    """
    errors: dict[str, float] = {}
    kept: dict[str, float] = {}
    for images in batches:
        for name, expected, found in zip(session.output_names, part(images), session(images)):
            if name.startswith(KEPT):
                kept[name] = min(kept.get(name, 1.0), _shared(expected, found))
            else:
                errors[name] = max(errors.get(name, 0.0), float((expected - found).abs().max()))
    return GraphCheck(sum(map(len, batches)), errors, kept)


def _shared(expected: Tensor, found: Tensor) -> float:
    """The share of the units ``[B, K]`` that are in both."""
    return float(torch.stack([torch.isin(a, b).float().mean() for a, b in zip(expected, found)]).mean())
