"""A training step of a backbone, to be timed: forward, a loss, backward."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from .conditions import autocast, measuring

__all__ = ['TRAINING_SCOPE', 'measuring_training', 'training_call']

TRAINING_SCOPE = (
    'a training step of the backbone: forward in training mode, the sum of the mean squares of its outputs as loss, '
    'and backward to all parameters, without an optimizer'
)


def training_call(module: Callable[[Tensor], object], images: Tensor, dtype: str) -> Callable[[], object]:
    """A call that runs one step on images ``[B, C, H, W]``, in the arithmetic of ``dtype``.

    Args:
        module: A backbone in training mode, or one compiled.
        images: On the device of the backbone.
        dtype: ``float32``, or half precision by autocast, without a scaler of the loss.
    """

    def call() -> None:
        with torch.enable_grad():
            with autocast(images.device, dtype):
                outputs = module(images)
            loss = sum(output.float().square().mean() for output in tree_flatten(outputs)[0] if torch.is_tensor(output))
            loss.backward()
        # At the end and not at the start, so that gradients count to the peak memory of the step that makes them.
        module.zero_grad(set_to_none=True)

    return call


@contextmanager
def measuring_training(module: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """Put a module into training mode on a device; leave it as it was found, see :func:`measuring`.

    Gradients, running statistics and the state of the random generators come back too.
    """
    gradients = [(parameter, parameter.grad) for parameter in module.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        cards = [device] if device.type == 'cuda' else []
        with measuring(module, device), torch.random.fork_rng(devices=cards):
            buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
            module.train()
            try:
                yield module
            finally:
                for buffer, before in buffers:
                    buffer.copy_(before)
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
