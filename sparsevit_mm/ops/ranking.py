"""From scores to ranks: one rule for windows and tokens, on every device."""

import torch
from torch import Tensor

__all__ = ['rank_units']


def rank_units(scores: Tensor) -> Tensor:
    """Units of each image from the highest score to the lowest; exact ties go to the lower index.

    A site keeps a prefix of its image's ranking, so what a later site keeps is always a part of what an earlier
    one kept.

    Args:
        scores: ``[B, U]``.

    Returns:
        ``[B, U]`` indices.
    """
    return torch.argsort(scores, dim=1, descending=True, stable=True)
