"""Selectors learn first, the backbone afterwards."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor

from ...models import find_sparse_backbone
from ...models.checkpoints import GROWN_PARTS
from ...registry import HOOKS
from .common import progress

__all__ = ['BackboneFreezeHook']


@HOOKS.register_module()
class BackboneFreezeHook(Hook):
    """Holds the weights of the backbone for the first epochs, so that its new parts find their place.

    DynamicViT and its Swin and ConvNeXt (arXiv 2106.02034, 2207.01580) do so for 5 epochs, and train the backbone at
    0.01 or 0.2 of the rate afterwards, which is a matter of the optimizer. The longest key that a name contains
    counts there (of two as long, the first in the alphabet), so the keys of the new parts must win over those of the
    backbone::

        custom_hooks = [dict(type='sparsevit_mm.BackboneFreezeHook', duration=5)]

        # PrunedViT; SparseSwin has 'selector.'
        custom_keys = {'backbone': dict(lr_mult=0.01), 'selectors.': dict(lr_mult=1.0)}

        # DynamicSwin; 'backbone' is longer than '.fast.'
        custom_keys = {
            'stages': dict(lr_mult=0.2),
            'patch_embed': dict(lr_mult=0.2),
            'selectors.': dict(lr_mult=1.0),
            '.fast.': dict(lr_mult=1.0),
        }
        optim_wrapper = dict(paramwise_cfg=dict(custom_keys=custom_keys))

    The published code sets the rate of these parameters to 0, which a scheduler that computes a rate from the last
    one would not survive. Here their gradients are zero until they reach the optimizer, which then passes them over:
    no step, no weight decay, no moments, and no part in the norm that gradients are clipped by. Every parameter still
    requires its gradient, as distributed training needs, and backward costs what it always does.

    Args:
        duration: Epochs or iterations.
        by_epoch: Whether they are epochs.
        trained: Parameters of the backbone with one of these in their names are trained all the time.

    Raises:
        ValueError: If an option is not valid, and, when training starts, if the model has no sparse backbone or its
            loop no epochs.
    """

    def __init__(self, duration: int, by_epoch: bool = True, trained: Sequence[str] = GROWN_PARTS) -> None:
        if isinstance(duration, bool) or not isinstance(duration, int) or duration < 1:
            raise ValueError(f'duration of BackboneFreezeHook must be an integer from 1 on, got {duration!r}.')
        if isinstance(trained, str) or not all(isinstance(part, str) and part for part in trained):
            raise ValueError(f'trained of BackboneFreezeHook must be parts of names, got {trained!r}.')
        self.duration = duration
        self.by_epoch = by_epoch
        self.trained = tuple(trained)
        self._undo: list[Callable[[], object]] = []

    def before_train(self, runner: Runner) -> None:
        """Hold the parameters, unless a resumed run is past that."""
        self._release()
        if not self._is_early(runner):
            return
        names = dict(find_sparse_backbone(runner.model).named_parameters())
        held = [p for name, p in names.items() if p.requires_grad and not any(part in name for part in self.trained)]

        def pass_over() -> None:
            for parameter in held:
                parameter.grad = None

        wrapper = runner.optim_wrapper
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        self._undo = [parameter.register_hook(_zero).remove for parameter in held]
        self._undo += [_before_step(part, pass_over) for part in wrappers]
        unit = 'epochs' if self.by_epoch else 'iterations'
        print_log(
            f'{len(held)} of {len(names)} parameters of the backbone are held for {self.duration} {unit}.', 'current'
        )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None) -> None:
        """Let go when the time has come."""
        if self._undo and not self._is_early(runner):
            self._release()
            print_log('The whole backbone is trained from here on.', 'current')

    def after_train(self, runner: Runner) -> None:
        """Leave the parameters as they were."""
        self._release()

    def _is_early(self, runner: Runner) -> bool:
        return progress(runner, self.by_epoch, 'BackboneFreezeHook') < self.duration

    def _release(self) -> None:
        for undo in self._undo:
            undo()
        self._undo = []


def _before_step(wrapper: OptimWrapper, action: Callable[[], None]) -> Callable[[], object]:
    """Lets something be done before each step; what is returned ends that.

    Hooks of optimizers are no way to do it: older releases of torch drop them as soon as anything is compiled.
    """
    step = wrapper.step

    def call(*args: Any, **kwargs: Any) -> None:
        action()
        step(*args, **kwargs)

    wrapper.step = call
    return lambda: vars(wrapper).pop('step', None)


def _zero(gradient: Tensor) -> Tensor:
    return torch.zeros_like(gradient)
