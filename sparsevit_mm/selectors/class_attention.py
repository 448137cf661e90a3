import torch
from torch import Tensor

from ..registry import MODELS
from .base import Selector

__all__ = ['ClassAttentionSelector']


@MODELS.register_module()
class ClassAttentionSelector(Selector):
    """The control for plain ViTs: tokens that the class token attends to most stay; nothing is learned.

    The attention is that of the block which follows the site, averaged over its heads (EViT, arXiv 2202.07800, eq. 2,
    ranks by it too). Only for backbones with a class token.
    """

    wants_class_attention = True

    @torch.no_grad()
    def forward(self, tokens: Tensor, alive: Tensor | None = None, class_attention: Tensor | None = None) -> Tensor:
        """Attention of the class token to each token, ``[B, L]``; see :meth:`Selector.forward`."""
        if class_attention is None:
            raise ValueError(
                'ClassAttentionSelector needs a backbone with a class token, such as PrunedViT(with_cls_token=True). '
                'Choose sparsevit_mm.MagnitudeSelector or sparsevit_mm.PredictorSelector here.'
            )
        return class_attention.float()
