import torch
from mmcv.cnn.bricks.transformer import FFN
from torch import Tensor, nn

from ...ops import LinearKernel, has_hooks, is_tracing, linear_kernel

__all__ = ['FeedForward']


class FeedForward:
    """The FFN of a block, ready to be run on many rows; for the time that its weights stay as they are.

    Args:
        ffn: mmcv's module. One that has been altered, or that somebody has put hooks on, is called itself.
        x: ``[rows, ...]`` features, for their device and dtype.
    """

    def __init__(self, ffn: FFN, x: Tensor) -> None:
        self._ffn = ffn
        self._steps = None if ffn.training or torch.is_grad_enabled() else _steps(ffn, x)

    def __call__(self, x: Tensor, identity: Tensor) -> Tensor:
        """The FFN of rows ``x [..., C]`` added to ``identity [..., C]``, which may be changed in place."""
        if self._steps is None:
            return self._ffn(x, identity=identity)
        change = self._branch(x)
        return identity + change if is_tracing() else identity.add_(change)

    def branch(self, x: Tensor) -> Tensor:
        """The FFN of rows without the residual and drop path, ``[..., C] -> [..., C]``."""
        return self._scaled(self._ffn.layers(x)) if self._steps is None else self._branch(x)

    def _branch(self, x: Tensor) -> Tensor:
        for kernel, act in self._steps:
            x = kernel(x, act)
        return self._scaled(x)

    def _scaled(self, x: Tensor) -> Tensor:
        scale = getattr(self._ffn, 'gamma2', None)
        return x if scale is None else scale(x)


def _steps(ffn: FFN, x: Tensor) -> list[tuple[LinearKernel, nn.Module | None]] | None:
    """The linear layers with the activations behind them; ``None`` if there is something else."""
    modules = list(ffn.layers.modules())
    if type(ffn) is not FFN or not ffn.add_identity or has_hooks(ffn, *modules):
        return None
    *hidden, last, dropout = ffn.layers
    known = all(isinstance(step, nn.Sequential) and len(step) == 3 for step in hidden)
    if not known or not isinstance(dropout, nn.Dropout):
        return None
    return [(linear_kernel(step[0], x), step[1]) for step in hidden] + [(linear_kernel(last, x), None)]
