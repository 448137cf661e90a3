"""The block of ConvNeXt and what it is made of. Maps are channels-last here, ``[B, H, W, C]``, unless said."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from mmcv.cnn import build_activation_layer
from mmcv.cnn.bricks.transformer import build_dropout
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...ops import LinearKernel, linear_kernel
from .chunked import Chunked

__all__ = ['ConvNeXtBlock', 'GlobalResponseNorm', 'LayerNorm2d', 'build_norm2d']


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of a map ``[B, C, H, W]``; the result is channels-last in memory."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W] -> [B, C, H, W]``."""
        return _norm_channels(x.permute(0, 2, 3, 1), self).permute(0, 3, 1, 2)


def build_norm2d(config: dict[str, Any], channels: int) -> LayerNorm2d:
    """The norm of a config, whose type can only be ``LN2d``.

    Raises:
        ValueError: If the type is another or the arguments are not those of a layer norm.
    """
    arguments = dict(config)
    kind = arguments.pop('type', None)
    if not isinstance(kind, str) or kind.rsplit('.', 1)[-1] not in ('LN2d', 'LayerNorm2d'):
        raise ValueError(f"norm_cfg of a ConvNeXt must be of type 'LN2d', got {config!r}.")
    try:
        return LayerNorm2d(channels, **arguments)
    except TypeError as error:
        raise ValueError(f'norm_cfg {config!r} has arguments that a layer norm does not take: {error}.') from error


class GlobalResponseNorm(nn.Module):
    """What ConvNeXt V2 has in its MLP (arXiv 2301.00808, eq. 1-3).

    Args:
        channels: Hidden channels.
        eps: Keeps the mean response from zero.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """``[B, N, C] -> [B, N, C]``; see :func:`global_response_norm`."""
        return global_response_norm(x, self, present)


def global_response_norm(x: Tensor, layer: nn.Module, present: Tensor | None) -> Tensor:
    """Global response normalization with the parameters of a layer, ours or the stock one.

    Args:
        x: ``[B, N, C]``.
        layer: With ``gamma``, ``beta`` and ``eps``.
        present: ``[B, N]``, 1 for tokens whose responses count; all if not given.
    """
    counted = x if present is None else x * present[..., None].to(x.dtype)
    response = torch.linalg.vector_norm(counted, dim=1, keepdim=True)
    relative = response / (response.mean(-1, keepdim=True) + layer.eps)
    return layer.gamma * (x * relative) + layer.beta + x


class ConvNeXtBlock(Chunked, BaseModule):
    """A ConvNeXt block with the state-dict keys of mmpretrain's.

    The MLP is computed on rows of tokens whatever its layers are, linear ones or convolutions of 1x1.

    Args:
        channels: Channels ``C``.
        norm_cfg: The norm.
        act_cfg: Activation of the MLP.
        linear_pw_conv: Whether the MLP is of linear layers.
        drop_path_rate: Chance of an image to skip the residual branch in training.
        layer_scale_init_value: Where the scale of the channels starts; 0 for no scale.
        use_grn: Whether the MLP has a global response normalization.
        with_cp: Whether activations of the block are recomputed in the backward pass to save memory.
    """

    MLP_RATIO = 4

    def __init__(
        self,
        channels: int,
        norm_cfg: dict,
        act_cfg: dict,
        linear_pw_conv: bool = True,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        use_grn: bool = False,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.depthwise_conv = nn.Conv2d(channels, channels, kernel_size=7, padding=3, groups=channels)
        self.norm = build_norm2d(norm_cfg, channels)
        self.hidden = self.MLP_RATIO * channels
        sizes = ((channels, self.hidden), (self.hidden, channels))
        layers = [nn.Linear(*size) if linear_pw_conv else nn.Conv2d(*size, kernel_size=1) for size in sizes]
        self.pointwise_conv1, self.pointwise_conv2 = layers
        self.act = build_activation_layer(act_cfg)
        self.grn = GlobalResponseNorm(self.hidden) if use_grn else None
        scale = layer_scale_init_value
        self.gamma = nn.Parameter(torch.full((channels,), float(scale))) if scale > 0 else None
        self.drop_path = build_dropout(dict(type='DropPath', drop_prob=drop_path_rate))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, H, W, C] -> [B, H, W, C]``."""
        return self._run(x)

    def _run(self, x: Tensor, *args: Any) -> Tensor:
        if self.with_cp and self.training and torch.is_grad_enabled():
            return torch.utils.checkpoint.checkpoint(self._compute, x, *args, use_reentrant=False)
        return self._compute(x, *args)

    def _compute(self, x: Tensor) -> Tensor:
        tokens = self._look_around(x)
        chunk = self._chunk(tokens)
        if chunk is None or chunk >= tokens.shape[0] * tokens.shape[1]:
            return x + self.drop_path(self.slow(tokens).view_as(x))
        rows, tokens = x.flatten(0, 2), tokens.flatten(0, 1)
        slow = self.slow_kernel(tokens)
        parts = [row + slow(part) for row, part in zip(rows.split(chunk), tokens.split(chunk))]
        return torch.cat(parts).view_as(x)

    def _look_around(self, x: Tensor) -> Tensor:
        """Depthwise convolution of all positions, ``[B, H, W, C] -> [B, L, C]``."""
        return self.depthwise_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1, 2)

    def _chunk(self, tokens: Tensor) -> int | None:
        """Rows to compute at once; ``None`` for all, as where gradients or responses of the whole map are wanted."""
        return None if self.grn is not None else self.rows_at_once(tokens, self.hidden)

    def slow(self, x: Tensor, decisions: Tensor | None = None) -> Tensor:
        """Norm and MLP with its scale, without the residual.

        Args:
            x: ``[..., C]``; ``[B, N, C]`` for blocks with a global response normalization.
            decisions: ``[B, N]``, 0 for tokens that another path takes. They are computed, but their responses do
                not count, since inference does not compute them.

        Returns:
            As ``x``.
        """
        return self._slow(x, self._linears(x), decisions)

    def slow_kernel(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """The same, ready to be run on many rows like these; for the time that the weights stay as they are."""
        return partial(self._slow, linears=self._linears(x))

    def _linears(self, x: Tensor) -> tuple[LinearKernel, LinearKernel]:
        return linear_kernel(self.pointwise_conv1, x), linear_kernel(self.pointwise_conv2, x)

    def _slow(self, x: Tensor, linears: tuple[LinearKernel, LinearKernel], decisions: Tensor | None = None) -> Tensor:
        x = linears[0](_norm_channels(x, self.norm), self.act)
        if self.grn is not None:
            x = global_response_norm(x, self.grn, decisions)
        x = linears[1](x)
        return x if self.gamma is None else x * self.gamma


def _norm_channels(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Layer norm over the last dimension, also with the norm of a stock block, which takes maps only."""
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
