"""Terms that are added to the losses of a model from outside."""

from collections.abc import Iterable
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .common import unwrap

__all__ = ['LossHook', 'is_loss']


def is_loss(args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a call of a model, ``model(inputs, data_samples, mode)``, asks for losses."""
    return kwargs.get('mode', args[2] if len(args) > 2 else 'tensor') == 'loss'


class LossHook(Hook):
    """Adds terms to the dict of losses that a detector or segmentor returns, without changing its class.

    From the beginning of a training to its end a forward hook sits on the model itself, inside the wrapper of
    distributed training, so that the terms belong to what the wrapper watches. It acts on calls with
    ``mode='loss'`` only, and on this model only: a copy of it, such as an average of weights, has no such terms.
    """

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []

    def attach(self, runner: Runner, model: nn.Module) -> Iterable[RemovableHandle]:
        """Prepare for a training; returns handles of hooks that go when it is over."""
        raise NotImplementedError

    def terms(self) -> dict[str, Tensor]:
        """The terms of the forward pass that has just run. Names contain ``loss``."""
        raise NotImplementedError

    def before_train(self, runner: Runner) -> None:
        """Sit on the model; checkpoints are loaded by now."""
        self._release()  # what an interrupted training left
        model = unwrap(runner.model)

        def add(module: nn.Module, args: tuple, kwargs: dict[str, Any], losses: Any) -> dict[str, Tensor] | None:
            if module is not model or not is_loss(args, kwargs):
                return None
            terms = self.terms()
            if taken := sorted(set(terms) & set(losses)):
                raise ValueError(f'{type(self).__name__} adds {", ".join(taken)}, which the losses have: remove one.')
            return {**losses, **terms}

        self._handles = [*self.attach(runner, model), model.register_forward_hook(add, with_kwargs=True)]

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        self._release()

    def _release(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
