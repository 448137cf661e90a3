from collections.abc import Callable
from typing import Any

import torch
import torch.utils.checkpoint
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.transformer import FFN, build_dropout
from mmengine.model import BaseModule
from torch import Tensor

from ...ops import WindowGrid, WindowRoute, write_rows
from .chunked import Chunked
from .feed_forward import FeedForward
from .package_attention import PackageAttention
from .window_attention import WindowAttention

__all__ = ['WindowBlock']


class _ShiftedAttention(BaseModule):
    """Holds the attention under the name that checkpoints know, with the drop path behind it."""

    def __init__(self, w_msa: WindowAttention, drop_path_rate: float) -> None:
        super().__init__()
        self.w_msa = w_msa
        self.drop = build_dropout(dict(type='DropPath', drop_prob=drop_path_rate))


class WindowBlock(Chunked, BaseModule):
    """A Swin block that computes the windows of a route and leaves all other tokens as they are.

    Rows of kept windows are gathered, run through attention and FFN, and written back; nothing is done for the
    rest of the map. With the route of all windows it is the stock block: padding enters attention as zeros *after*
    the first norm, as in mmdet and mmseg (SparseViT's release pads before it, and so differs from the dense model
    wherever there is padding), and only real tokens enter the FFN.

    State-dict keys are those of the ``SwinBlock`` of mmdet and mmseg.

    Args:
        embed_dims: Channels ``C``.
        num_heads: Attention heads.
        feedforward_channels: Hidden channels of the FFN.
        window_size: Side of a window in tokens.
        shift: Whether the windows are shifted by half a window.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_scale: Factor of the attention scores instead of ``(C / num_heads) ** -0.5``.
        drop_rate: Dropout of the projection and in the FFN.
        attn_drop_rate: Dropout of attention weights.
        drop_path_rate: Chance of an image to skip a residual branch in training.
        act_cfg: Activation of the FFN.
        norm_cfg: Norm layers.
        with_cp: Whether activations of the block are recomputed in the backward pass to save memory.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        window_size: int,
        shift: bool,
        qkv_bias: bool,
        qk_scale: float | None,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rate: float,
        act_cfg: dict,
        norm_cfg: dict,
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.shift_size = window_size // 2 if shift else 0
        self.with_cp = with_cp
        self.norm1 = build_norm_layer(norm_cfg, embed_dims)[1]
        w_msa = WindowAttention(
            embed_dims,
            num_heads,
            window_size,
            qkv_bias,
            qk_scale,
            attn_drop_rate=attn_drop_rate,
            proj_drop_rate=drop_rate,
        )
        self.attn = _ShiftedAttention(w_msa, drop_path_rate)
        self.norm2 = build_norm_layer(norm_cfg, embed_dims)[1]
        self.ffn = FFN(
            embed_dims=embed_dims,
            feedforward_channels=feedforward_channels,
            ffn_drop=drop_rate,
            dropout_layer=dict(type='DropPath', drop_prob=drop_path_rate),
            act_cfg=act_cfg,
        )

    def forward(self, rows: Tensor, route: WindowRoute, grid: WindowGrid, decisions: Tensor | None = None) -> Tensor:
        """Computes the windows of a route.

        Args:
            rows: ``[R, C]`` the maps of the batch as rows. Changed in place where that is safe.
            route: The rows to compute.
            grid: The windows that the route was built from.
            decisions: ``[B, K]`` 1 or 0 for the windows of the route, with a gradient to the selector that chose them.
                A window's result is ``x + decision * (block(x) - x)``, so what the block does for the loss decides
                whether its window should have been chosen.

        Returns:
            ``[R, C]``.
        """
        chunk = self.rows_at_once(rows, self.ffn.feedforward_channels)
        if chunk is not None:
            return self._forward_chunks(rows, route, grid.masks, chunk)
        x = rows.index_select(0, route.rows)  # [B * K * N, C]
        y = self._run(self._compute, x, route, grid.masks)
        return write_rows(rows, route.places, self._gated(x, y, route, decisions))

    def forward_with_packages(
        self, rows: Tensor, route: WindowRoute, grid: WindowGrid, packages: Tensor, decisions: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The same where windows see the package tokens of their image, which are computed beside them.

        Args:
            rows: As in :meth:`forward`.
            route: Likewise.
            grid: Likewise.
            packages: ``[B, m, C]``.
            decisions: As in :meth:`forward`; packages see no window whose decision is 0.

        Returns:
            ``[R, C]`` and ``[B, m, C]``.
        """
        chunk = self.rows_at_once(rows, self.ffn.feedforward_channels)
        if chunk is not None:
            attention = PackageAttention(self.attn.w_msa, self.norm1(packages), self.attn.w_msa.kernels(rows))
            rows = self._forward_chunks(rows, route, grid.masks, chunk, packages=attention)
            packages = packages + attention.packages()
            return rows, self._with_ffn(packages)
        x = rows.index_select(0, route.rows)
        computed = None if decisions is None else decisions.detach().flatten() > 0
        y, packages = self._run(self._compute_with_packages, x, route, grid.masks, packages, computed)
        return write_rows(rows, route.places, self._gated(x, y, route, decisions)), packages

    def attend(self, rows: Tensor, route: WindowRoute, grid: WindowGrid) -> Tensor:
        """The first half of the block alone: attention with its residual, as :meth:`forward` takes and gives it."""
        chunk = self.rows_at_once(rows, self.ffn.feedforward_channels)
        if chunk is not None:
            return self._forward_chunks(rows, route, grid.masks, chunk, feed_forward=False)
        x = rows.index_select(0, route.rows)
        return write_rows(rows, route.places, self._run(self._attend_real, x, route, grid.masks))

    def _gated(self, x: Tensor, y: Tensor, route: WindowRoute, decisions: Tensor | None) -> Tensor:
        """Results ``y`` of gathered rows ``x``, or ``x`` itself where the decision was against its window."""
        if decisions is None:
            return y
        gate = decisions.flatten().repeat_interleave(self.attn.w_msa.window_size**2)[:, None].to(y.dtype)
        if route.real is not None:
            x, gate = x.index_select(0, route.real), gate.index_select(0, route.real)
        return x + gate * (y - x)

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls a function, which is run again in the backward pass where memory is to be saved."""
        if self.with_cp and self.training and torch.is_grad_enabled():
            return torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=False)
        return function(*args)

    def _compute(self, x: Tensor, route: WindowRoute, masks: Tensor | None) -> Tensor:
        """Attention and FFN of gathered windows, ``[B * K * N, C] -> [B * K * N, C]``, or ``[B * V, C]``."""
        return self._feed_forward(self._attend_real(x, route, masks), route.batch)

    def _compute_with_packages(
        self, x: Tensor, route: WindowRoute, masks: Tensor | None, packages: Tensor, computed: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`_compute`, with packages ``[B, m, C]`` behind the rows of their image."""
        tokens = self.attn.w_msa.window_size**2
        attention = PackageAttention(self.attn.w_msa, self.norm1(packages), self.attn.w_msa.kernels(x))
        padding = None if route.padding is None else route.padding.view(-1, tokens)
        y = self._normed(x, route.padding).view(-1, tokens, x.shape[-1])
        y = attention.windows(y, self.attn.w_msa.bias(masks), route.kinds, route.images, padding)
        change = _joined(y.flatten(0, 1), attention.packages(computed), route.batch)
        x, packages = _parted(_joined(x, packages, route.batch) + self.attn.drop(change), packages)
        x = _joined(x if route.real is None else x.index_select(0, route.real), packages, route.batch)
        return _parted(self._with_ffn(x), packages)

    def _attend_real(self, x: Tensor, route: WindowRoute, masks: Tensor | None) -> Tensor:
        """Attention of gathered windows, then real tokens only; shapes as in :meth:`_compute`."""
        tokens, dims = self.attn.w_msa.window_size**2, x.shape[-1]
        y = self._normed(x, route.padding).view(-1, tokens, dims)
        y = self.attn.w_msa(y, self.attn.w_msa.bias(masks), route.kinds)
        # Drop path is drawn for an image, so an image is one item here.
        x = (x.view(route.batch, -1, dims) + self.attn.drop(y.view(route.batch, -1, dims))).flatten(0, 1)
        return x if route.real is None else x.index_select(0, route.real)

    def _forward_chunks(
        self,
        rows: Tensor,
        route: WindowRoute,
        masks: Tensor | None,
        chunk: int,
        feed_forward: bool = True,
        packages: PackageAttention | None = None,
    ) -> Tensor:
        """The block in inference over chunks of windows, so that what a chunk needs stays in the processor's caches.

        The spill row is not read and not written.

        Args:
            rows: As in :meth:`forward`.
            route: Likewise.
            masks: Attention masks of the kinds of windows.
            chunk: Rows to compute at once, rounded down to whole windows.
            feed_forward: Whether the FFN is computed too.
            packages: What windows see of packages, and packages of windows, if there are any.

        Returns:
            ``[R, C]``.
        """
        attention, tokens = self.attn.w_msa, self.attn.w_msa.window_size**2
        bias = attention.bias(masks)
        kernels = attention.kernels(rows) if packages is None else packages.kernels
        ffn = FeedForward(self.ffn, rows) if feed_forward else None
        for part in route.split(max(1, chunk // tokens)):
            x = rows.index_select(0, part.rows)
            y = self._normed(x, part.padding).view(-1, tokens, x.shape[-1])
            if packages is None:
                y = attention(y, bias, part.kinds, kernels)
            else:
                hidden = None if part.padding is None else part.padding.view(-1, tokens)
                y = packages.windows(y, bias, part.kinds, part.images, hidden)
            x += y.flatten(0, 1)
            if part.real is not None:
                x = x.index_select(0, part.real)
            if ffn is not None:
                x = ffn(self.norm2(x), identity=x)
            rows = write_rows(rows, part.places, x)
        return rows

    def _normed(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """Rows after the first norm, zeros for padding."""
        y = self.norm1(x)
        return y if padding is None else y.masked_fill(padding, 0)

    def _feed_forward(self, x: Tensor, batch: int) -> Tensor:
        """FFN with its residual, ``[M, C] -> [M, C]`` for rows of ``batch`` images."""
        x = x.view(batch, -1, x.shape[-1])
        return self._with_ffn(x).flatten(0, 1)

    def _with_ffn(self, x: Tensor) -> Tensor:
        """``x + ffn(norm(x))``, ``[..., C] -> [..., C]``; ``x`` may be changed in inference."""
        return FeedForward(self.ffn, x)(self.norm2(x), identity=x)


def _joined(rows: Tensor, packages: Tensor, batch: int) -> Tensor:
    """Rows ``[M, C]`` with packages ``[B, m, C]`` behind them, ``[batch, M / batch + ..., C]``.

    An image with its packages is one item then, as drop path wants it; where images have different numbers of rows all
    of them are one, in evaluation.
    """
    dims = rows.shape[-1]
    return torch.cat([rows.view(batch, -1, dims), packages.reshape(batch, -1, dims)], dim=1)


def _parted(both: Tensor, packages: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of :func:`_joined`, for packages of the same shape."""
    behind = packages.shape[0] * packages.shape[1] // both.shape[0]
    rows, own = both.split([both.shape[1] - behind, behind], dim=1)
    return rows.flatten(0, 1), own.reshape(packages.shape)
