import torch
from torch import Tensor

from ..ops import rows_per_chunk
from ..registry import MODELS
from .base import Selector

__all__ = ['MagnitudeSelector']


@MODELS.register_module()
class MagnitudeSelector(Selector):
    """Importance is the magnitude of a feature; nothing is learned.

    As in SparseViT (arXiv 2303.17605): the mean of ``|x|`` over the channels of a token, then the L2 norm over the
    tokens of a window. (The paper's figure caption suggests the L2 norm of all activations; the released code, which
    made its numbers, does this.)
    """

    @torch.no_grad()
    def forward(self, tokens: Tensor, alive: Tensor | None = None, class_attention: Tensor | None = None) -> Tensor:
        """Mean magnitude of each token, ``[B, L, C] -> [B, L]``; see :meth:`Selector.forward`."""
        chunk = rows_per_chunk(tokens, 4 * tokens.shape[-1])  # two numbers a channel, one in float32
        parts = tokens.split(tokens.shape[1] if chunk is None else chunk, dim=1)
        # Not by vector_norm, which takes four times as long on a CPU for ord=1.
        totals = [part.abs().sum(-1, dtype=torch.float32) for part in parts]
        return (torch.cat(totals, dim=1) if len(totals) > 1 else totals[0]) / tokens.shape[-1]
