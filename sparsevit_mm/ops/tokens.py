"""Some tokens of each image out of all, and back to their places.

``gather_tokens`` and ``put_tokens`` are inverse: what was gathered and put back changes nothing.
"""

import torch
from torch import Tensor

from .routes import write_rows

__all__ = ['gather_tokens', 'put_tokens']


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """``[B, L, C]`` at the places ``[B, K]`` of each image: ``[B, K, C]``."""
    batch, count = index.shape
    return tokens.flatten(0, 1).index_select(0, _rows(tokens, index)).view(batch, count, -1)


def put_tokens(tokens: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Writes ``values [B, K, C]`` at the places ``[B, K]`` of ``tokens [B, L, C]``, in place, and returns it."""
    rows = write_rows(tokens.flatten(0, 1), _rows(tokens, index), values.flatten(0, 1))
    return rows.view_as(tokens)


def _rows(tokens: Tensor, index: Tensor) -> Tensor:
    """Places in each image as rows of all images together, ``[B * K]``."""
    offset = torch.arange(tokens.shape[0], device=index.device)[:, None] * tokens.shape[1]
    return (index + offset).flatten()
