"""Selectors learn to keep as much as the sparsity of their sites asks for."""

from collections.abc import Iterable
from numbers import Real

import torch
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ...models import find_sparse_backbone
from ...models.losses import keep_ratio_loss
from ...registry import HOOKS
from .loss_hook import LossHook

__all__ = ['KeepRatioLossHook']

REDUCTIONS = ('image', 'batch')


@HOOKS.register_module()
class KeepRatioLossHook(LossHook):
    """Adds ``loss_keep_ratio``, which draws what learned selectors keep to the sparsity of the backbone.

    The target of a site is one minus its present sparsity, so it follows an annealed or a drawn one. Sites at
    sparsity 0 decide nothing and take no part; where none does the term is 0. Published weights are 2 for a plain
    ViT (DynamicViT, arXiv 2106.02034) and 10 for Swin and ConvNeXt (arXiv 2207.01580)::

        custom_hooks = [dict(type='sparsevit_mm.KeepRatioLossHook', weight=10.0)]

    Args:
        weight: Factor of the term.
        reduction: ``'image'`` draws every image to the target, ``'batch'`` the mean over the images of a process; see
            :func:`~sparsevit_mm.models.losses.keep_ratio_loss`.

    Raises:
        ValueError: If an option is not valid, and, when training starts, if the model has no sparse backbone or that
            backbone no selector that learns.
    """

    def __init__(self, weight: float = 2.0, reduction: str = 'image') -> None:
        super().__init__()
        if isinstance(weight, bool) or not isinstance(weight, Real) or not 0 < weight < float('inf'):
            raise ValueError(f'weight of KeepRatioLossHook must be a number above 0, got {weight!r}.')
        if reduction not in REDUCTIONS:
            raise ValueError(f'reduction of KeepRatioLossHook must be one of {REDUCTIONS}, got {reduction!r}.')
        self.weight = weight
        self.reduction = reduction

    def attach(self, runner: Runner, model: nn.Module) -> Iterable[RemovableHandle]:
        """Find the backbone and see that there is something to teach."""
        backbone = find_sparse_backbone(model)
        if not any(selector.learns for selector in backbone.selectors()):
            names = sorted({type(selector).__name__ for selector in backbone.selectors()})
            raise ValueError(
                f'KeepRatioLossHook teaches selectors, but {type(backbone).__name__} has {", ".join(names) or "none"}, '
                f'which learns nothing: remove the hook, or choose a learned one, such as '
                f"model.backbone.selector=dict(type='sparsevit_mm.PredictorSelector')."
            )
        self._backbone = backbone
        self._device = next(model.parameters()).device
        return ()

    def terms(self) -> dict[str, Tensor]:
        """``loss_keep_ratio`` of the forward pass; leaves its ratios without their graph, for logs."""
        noted = self._backbone.keep_ratios  # by the sites that decided something
        sparsity = dict(zip(self._backbone.sites, self._backbone.sparsity))
        ratios, targets = list(noted.values()), [1 - sparsity[site] for site in noted]
        noted.update({site: ratio.detach() for site, ratio in noted.items()})
        if not ratios:
            return {'loss_keep_ratio': torch.zeros((), device=self._device)}
        loss = keep_ratio_loss(ratios, targets, per_image=self.reduction == 'image')
        return {'loss_keep_ratio': self.weight * loss}
