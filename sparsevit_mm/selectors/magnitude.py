import torch
from torch import Tensor

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
        total = torch.linalg.vector_norm(tokens, ord=1, dim=-1, dtype=torch.float32)
        return total / tokens.shape[-1]
