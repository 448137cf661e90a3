"""Selectors learn to keep as much as the sparsity of their sites asks for."""

import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ...budget import Budget
from ...models import find_sparse_backbone
from ...models.losses import keep_ratio_loss
from ...registry import HOOKS
from .budget_target import BudgetTarget
from .loss_hook import LossHook

__all__ = ['KeepRatioLossHook']

REDUCTIONS = ('image', 'batch')
TARGETS = ('sparsity', 'budget')
OUT = 'fitted_config.py'


@HOOKS.register_module()
class KeepRatioLossHook(LossHook):
    """Adds ``loss_keep_ratio``, which draws what learned selectors keep to the sparsity of the backbone.

    The target of a site is one minus its present sparsity, so it follows an annealed or a drawn one. Sites at
    sparsity 0 decide nothing and take no part; where none does the term is 0. Published weights are 2 for a plain
    ViT (DynamicViT, arXiv 2106.02034) and 10 for Swin and ConvNeXt (arXiv 2207.01580)::

        custom_hooks = [dict(type='sparsevit_mm.KeepRatioLossHook', weight=10.0)]

    With ``target='budget'`` the sparsity itself comes from a latency budget (SPViT, arXiv 2112.13890): before training
    starts it is fitted by a table of the device, see :func:`~sparsevit_mm.cost.fit_to_budget`, and set::

        custom_hooks = [
            dict(type='sparsevit_mm.KeepRatioLossHook', target='budget', budget='30ms', table='table.json')
        ]

    The config that was trained has another sparsity, so one with the fitted sparsity is written into the work dir.

    Args:
        weight: Factor of the term.
        reduction: ``'image'`` draws every image to the target, ``'batch'`` the mean over the images of a process; see
            :func:`~sparsevit_mm.models.losses.keep_ratio_loss`.
        target: ``'sparsity'`` takes the sparsity of the backbone, ``'budget'`` fits it to a budget.
        budget: A fraction of the latency at sparsity 0 (``0.6``, ``'60%'``), or a time (``'30ms'``).
        table: A file that ``tools/latency_table.py`` has written, or what it holds as a dict.
        conditions: What the table must have been measured under, some of ``device_name``, ``device``, ``dtype``,
            ``batch``, ``shape`` and ``threads``. Without a ``device_name`` it must be of this machine.
        margin: Fraction of the budget that is kept free; that of :func:`~sparsevit_mm.cost.fit_to_budget` if not given.
        out: Name of the config file that is written.
        weights: How much dropping at a site matters, one value a site, see :func:`~sparsevit_mm.cost.fit_to_budget`;
            all the same if not given.

    Raises:
        ValueError: If an option is not valid or does not go with the target, and, when training starts, if the model
            has no sparse backbone or that backbone no selector that learns, or if the table does not fit or the budget
            cannot be kept.
    """

    # The sparsity is set before other hooks copy the model, log its sparsity or take it for their target.
    priority = 'HIGH'

    def __init__(
        self,
        weight: float = 2.0,
        reduction: str = 'image',
        target: str = 'sparsity',
        budget: float | str | Budget | None = None,
        table: str | os.PathLike | Mapping[str, Any] | None = None,
        conditions: Mapping[str, Any] | None = None,
        margin: float | None = None,
        out: str = OUT,
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(weight, bool) or not isinstance(weight, Real) or not 0 < weight < float('inf'):
            raise ValueError(f'weight of KeepRatioLossHook must be a number above 0, got {weight!r}.')
        if reduction not in REDUCTIONS:
            raise ValueError(f'reduction of KeepRatioLossHook must be one of {REDUCTIONS}, got {reduction!r}.')
        if target not in TARGETS:
            raise ValueError(f'target of KeepRatioLossHook must be one of {TARGETS}, got {target!r}.')
        self.weight = weight
        self.reduction = reduction
        self.target: BudgetTarget | None = None
        if target == 'budget':
            if budget is None or table is None:
                missing = ' and '.join(name for name, value in (('budget', budget), ('table', table)) if value is None)
                raise ValueError(
                    f"target='budget' of KeepRatioLossHook needs {missing}: give budget='30ms' or a fraction of dense, "
                    f'and the table that tools/latency_table.py measures.'
                )
            self.target = BudgetTarget(budget, table, {} if conditions is None else conditions, margin, out, weights)
            return
        options = dict(
            budget=budget,
            table=table,
            conditions=conditions,
            margin=margin,
            out=None if out == OUT else out,
            weights=weights,
        )
        if given := [name for name, value in options.items() if value is not None]:
            raise ValueError(
                f"{', '.join(given)} of KeepRatioLossHook mean something with target='budget' only, and target is "
                f"{target!r}: set target='budget', or leave them out."
            )

    def before_run(self, runner: Runner) -> None:
        """Fit the sparsity to the budget, if that is the target."""
        if self.target is not None:
            self.target.apply(runner)

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
