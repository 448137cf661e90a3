"""Images that keep different numbers of tokens, without padding: their tokens one after the other."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .routes import write_rows

__all__ = ['PackedTokens', 'keep_above', 'keep_best_of_batch', 'kept_indices']


def keep_above(log_odds: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Which units stay where every image has a number of its own: those more likely to stay than to go.

    At least one of each image does, the best of those allowed; exact ties go to the lower index.

    Args:
        log_odds: ``[B, U]`` of staying.
        allowed: ``[B, U]``, true for the units that may stay; ``None`` for all.

    Returns:
        ``[B, U]``, true where a unit stays.
    """
    if allowed is not None:
        log_odds = log_odds.masked_fill(~allowed, -torch.inf)
    best = log_odds.argmax(1, keepdim=True)
    return (log_odds > 0).scatter(1, best, True)


def keep_best_of_batch(scores: Tensor, count: int, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The best units of all images together, ``count`` of each on average, and at least one of each.

    Args:
        scores: ``[B, U]``.
        count: Units that an image keeps on average.
        allowed: ``[B, U]``, true for the units that may stay; ``None`` for all.

    Returns:
        ``[B, U]``, true where a unit stays; and a scalar, the score between the last that stays and the first that
        goes.
    """
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    ranked, order = scores.flatten().sort(descending=True, stable=True)
    # How many stay is a tensor: asking for the number would make the processor wait for the device.
    staying = ranked.isfinite().sum().clamp(max=len(scores) * count)
    ranks = torch.arange(len(ranked), device=scores.device)
    mask = torch.empty_like(ranked, dtype=torch.bool).scatter(0, order, ranks < staying).view_as(scores)
    around = torch.stack([staying - 1, staying]).clamp(0, len(ranked) - 1)
    last, below = ranked.index_select(0, around).unbind()
    cut = torch.where(below.isfinite(), (last + below) / 2, last - 1e-6)
    return mask.scatter(1, scores.argmax(1, keepdim=True), True), cut


def kept_indices(mask: Tensor) -> Tensor:
    """``[B, U]`` true for kept units as their indices ``[B, K]`` in ascending order, filled up with -1."""
    counts = mask.sum(1)
    order = torch.argsort(~mask, dim=1, stable=True)[:, : int(counts.max())]
    places = torch.arange(order.shape[1], device=mask.device)
    return order.masked_fill(places >= counts[:, None], -1)


@dataclass(frozen=True, eq=False)
class PackedTokens:
    """Some tokens of each image, ``T`` of all images together.

    ``pack`` and ``put`` are inverse: what was packed and put back changes nothing.

    Args:
        rows: ``[T, C]``, image by image.
        index: ``[T]`` their places in the flattened batch.
        lengths: How many there are of each image.
    """

    rows: Tensor
    index: Tensor
    lengths: tuple[int, ...]

    @classmethod
    def pack(cls, tokens: Tensor, mask: Tensor) -> 'PackedTokens':
        """``tokens [B, N, C]`` where ``mask [B, N]`` is true."""
        index = mask.flatten().nonzero().squeeze(1)
        return cls(tokens.flatten(0, 1).index_select(0, index), index, tuple(mask.sum(1).tolist()))

    def put(self, tokens: Tensor) -> Tensor:
        """Writes them at their places of ``tokens [B, N, C]``, in place, and returns it."""
        return write_rows(tokens.flatten(0, 1), self.index, self.rows).view_as(tokens)

    def with_rows(self, rows: Tensor) -> 'PackedTokens':
        """The same tokens with other features."""
        return replace(self, rows=rows)
