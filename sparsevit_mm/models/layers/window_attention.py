from dataclasses import dataclass

import torch
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ...ops import LinearKernel, attend, is_observed, linear_kernel

__all__ = ['AttentionKernels', 'WindowAttention']


@dataclass(frozen=True, eq=False)
class AttentionKernels:
    """The projections of attention, ready to be run on many windows.

    Args:
        qkv: Into queries, keys and values.
        proj: Out.
    """

    qkv: LinearKernel
    proj: LinearKernel


# The last bias of each table. Not on the module: it stays out of its copies and pickles.
_KEPT = WeakTensorKeyDictionary()


@dataclass(frozen=True, eq=False)
class _KeptBias:
    """What :meth:`WindowAttention.bias` gave, and of what it was made."""

    bias: Tensor
    table: Tensor
    masks: Tensor | None

    def fits(self, table: Tensor, masks: Tensor | None) -> bool:
        return self.masks is masks and self.table.dtype == table.dtype and torch.equal(self.table, table)


class WindowAttention(BaseModule):
    """Multi-head self-attention within windows, with relative position bias (Swin, arXiv 2103.14030, eq. 4).

    State-dict keys are those of the ``WindowMSA`` of mmdet and mmseg.

    Args:
        embed_dims: Channels ``C``.
        num_heads: Attention heads; they divide the channels.
        window_size: Side of a window in tokens; a window has ``N = window_size ** 2``.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_scale: Factor of the scores instead of ``(C / num_heads) ** -0.5``.
        attn_drop_rate: Dropout of attention weights.
        proj_drop_rate: Dropout of the output.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: int,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.window_size = window_size
        self.scale = qk_scale or (embed_dims // num_heads) ** -0.5
        side = 2 * window_size - 1
        self.relative_position_bias_table = nn.Parameter(torch.zeros(side**2, num_heads))
        # Token (y, x) looks at (y', x'): row (y - y' + w - 1) * side + (x - x' + w - 1) of the table.
        coords = torch.arange(window_size)
        place = (coords[:, None] * side + coords[None, :]).flatten()
        index = place[:, None] - place[None, :] + (window_size - 1) * (side + 1)
        self.register_buffer('relative_position_index', index)
        self.qkv = nn.Linear(embed_dims, embed_dims * 3, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop_rate)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(proj_drop_rate)

    def init_weights(self) -> None:
        super().init_weights()
        trunc_normal_(self.relative_position_bias_table, std=0.02)

    def bias(self, masks: Tensor | None = None) -> Tensor:
        """What is added to the attention scores, ``[1, heads, N, N]``, or one for each of ``masks [M, N, N]``."""
        table = self.relative_position_bias_table
        if table.device.type != 'cpu' or torch.is_grad_enabled() or is_observed():
            return self._bias(masks)
        # In inference on the CPU the last one is kept: to look it up takes several times as long as to compare tables.
        kept = _KEPT.get(table)
        if kept is None or not kept.fits(table, masks):
            with torch.inference_mode(False), torch.no_grad():
                kept = _KEPT[table] = _KeptBias(self._bias(masks), table.detach().clone(), masks)
        return kept.bias

    def _bias(self, masks: Tensor | None) -> Tensor:
        tokens = self.window_size**2
        # [N * N, heads] -> [heads, N, N]
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.view(tokens, tokens, -1).permute(2, 0, 1).contiguous()
        return bias[None] if masks is None else bias[None] + masks[:, None].to(bias.dtype)

    def kernels(self, x: Tensor) -> AttentionKernels:
        """The projections for features like these; for the time that the weights stay as they are."""
        return AttentionKernels(linear_kernel(self.qkv, x), linear_kernel(self.proj, x))

    def project(self, x: Tensor, kernels: AttentionKernels) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, ``[M, N, C] -> 3 x [M, heads, N, C / heads]``."""
        qkv = kernels.qkv(x).view(*x.shape[:2], 3, self.num_heads, -1)
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)

    def forward(
        self, x: Tensor, bias: Tensor, kinds: Tensor | None = None, kernels: AttentionKernels | None = None
    ) -> Tensor:
        """Attends within each window.

        Args:
            x: ``[M, N, C]``.
            bias: ``[1, heads, N, N]`` added to the scores, or one for each kind of window.
            kinds: ``[M]`` the kind of each window; ``None`` if there is one kind.
            kernels: What :meth:`kernels` gives, where there are several calls.

        Returns:
            ``[M, N, C]``.
        """
        kernels = kernels or self.kernels(x)
        dropout = self.attn_drop.p if self.attn_drop.training else 0.0
        x = attend(*self.project(x, kernels), bias, kinds, self.scale, dropout)
        return self.proj_drop(kernels.proj(x))
