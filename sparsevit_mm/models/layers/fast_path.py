from collections.abc import Callable
from functools import partial

import torch
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from ...ops import linear_kernel

__all__ = ['FastPath']


class FastPath(BaseModule):
    """What tokens get in place of an MLP: a norm and one linear layer (arXiv 2207.01580).

    Args:
        embed_dims: Channels ``C``.
        eps: Of the norm.
        drop_rate: Dropout of the result.
        layer_scale_init_value: Where the scale of the channels starts; 0 for no scale.
    """

    def __init__(
        self, embed_dims: int, eps: float = 1e-5, drop_rate: float = 0.0, layer_scale_init_value: float = 0.0
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(embed_dims, eps=eps)
        self.linear = nn.Linear(embed_dims, embed_dims)
        self.drop = nn.Dropout(drop_rate)
        self.scale_init = layer_scale_init_value
        self.gamma = nn.Parameter(torch.full((embed_dims,), float(self.scale_init))) if self.scale_init > 0 else None

    def init_weights(self) -> None:
        """Weights of the linear layer are normal with a standard deviation of 0.02."""
        nn.init.ones_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)
        trunc_normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)
        if self.gamma is not None:
            nn.init.constant_(self.gamma, self.scale_init)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., C] -> [..., C]``, without the residual."""
        return self._run(x, self.linear)

    def kernel(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """The same, ready to be run on many rows like these; for the time that the weights stay as they are."""
        return partial(self._run, linear=linear_kernel(self.linear, x))

    def _run(self, x: Tensor, linear: Callable[[Tensor], Tensor]) -> Tensor:
        x = self.drop(linear(self.norm(x)))
        return x if self.gamma is None else x * self.gamma
