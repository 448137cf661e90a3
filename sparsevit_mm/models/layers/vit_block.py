from collections.abc import Sequence

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.scale import LayerScale
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...ops import PackedTokens, attend, linear_kernel, weight_kernel
from .chunked import Chunked
from .feed_forward import FeedForward

__all__ = ['TokenAttention', 'ViTBlock', 'masked_softmax']

# Of scores above the greatest one alive: dropped tokens, whose weight counts for gradients only.
_MAX_EXPONENT = 30.0


def masked_softmax(scores: Tensor, alive: Tensor) -> Tensor:
    """Softmax over the tokens that are alive, and each token itself (DynamicViT, arXiv 2106.02034, eq. 11 and 12).

    The decisions enter as factors, so they get a gradient from what attention does without a token.

    Two departures. The greatest score is that of the tokens alive, so that a dropped one that would dominate does not
    drown them in rounding, and no small addend is needed. And the gradient of a dropped token is that of the weight
    it would have among those alive, ``e / (sum + e)``: as published it is ``e / sum``, which has no bound, and a few
    such tokens outweigh all other gradients of a selector.

    Args:
        scores: ``[B, heads, N, N]`` in float32.
        alive: ``[B, N]`` decisions, 0 or 1.
    """
    itself = torch.eye(scores.shape[-1], dtype=scores.dtype, device=scores.device)
    allowed = alive[:, None, None, :]
    allowed = allowed + (1 - allowed) * itself
    greatest = scores.detach().masked_fill(allowed == 0, -torch.inf).amax(-1, keepdim=True)
    raw = (scores - greatest).clamp(max=_MAX_EXPONENT).exp()
    if alive.requires_grad:
        with torch.no_grad():
            present = (raw * allowed).sum(-1, keepdim=True)
            share = present / (present + raw * (1 - allowed))
        allowed = allowed.detach() + (allowed - allowed.detach()) * share
    weights = raw * allowed
    return weights / weights.sum(-1, keepdim=True)


class _InProjection(BaseModule):
    """Holds the projections under the names of ``nn.MultiheadAttention``, which checkpoints have."""

    def __init__(self, embed_dims: int, bias: bool) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dims, embed_dims))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dims)) if bias else None
        self.out_proj = nn.Linear(embed_dims, embed_dims, bias=bias)
        nn.init.xavier_uniform_(self.in_proj_weight)
        if bias:
            nn.init.zeros_(self.out_proj.bias)


class TokenAttention(BaseModule):
    """Multi-head self-attention of a plain ViT, with the state-dict keys of mmcv's ``MultiheadAttention``.

    Args:
        embed_dims: Channels ``C``.
        num_heads: Attention heads; they divide the channels.
        qkv_bias: Whether the projections have a bias.
        attn_drop_rate: Dropout of attention weights.
        proj_drop_rate: Dropout of the output.
        layer_scale_init_value: Start of a factor a channel on the output; 0 for none.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        qkv_bias: bool = True,
        attn_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        layer_scale_init_value: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed_dims, self.num_heads = embed_dims, num_heads
        self.head_dims = embed_dims // num_heads
        self.attn = _InProjection(embed_dims, qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop_rate)
        self.proj_drop = nn.Dropout(proj_drop_rate)
        scaled = layer_scale_init_value > 0
        self.gamma1 = LayerScale(embed_dims, scale=layer_scale_init_value) if scaled else nn.Identity()

    def forward(self, x: Tensor, alive: Tensor | None = None) -> Tensor:
        """Attends among the tokens of each image.

        Args:
            x: ``[B, N, C]``.
            alive: ``[B, N]`` decisions, where dropped tokens are still there but are not to be attended to.

        Returns:
            ``[B, N, C]``.
        """
        batch, tokens, dims = x.shape
        # [B, N, 3C] -> 3 x [B, heads, N, C / heads]
        qkv = weight_kernel(self.attn.in_proj_weight, self.attn.in_proj_bias, x)(x)
        q, k, v = qkv.view(batch, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if alive is None:
            x = attend(q, k, v, dropout=self.attn_drop.p if self.attn_drop.training else 0.0)
        else:
            with torch.autocast(x.device.type, enabled=False):
                scores = q.float() @ k.float().transpose(-2, -1) * self.head_dims**-0.5
                weights = self.attn_drop(masked_softmax(scores, alive.float()))
            x = (weights.to(v.dtype) @ v).transpose(1, 2).reshape(batch, tokens, dims)
        return self.gamma1(self.proj_drop(linear_kernel(self.attn.out_proj, x)(x)))

    def forward_packed(self, rows: Tensor, lengths: Sequence[int]) -> Tensor:
        """Attends among the tokens of each image, whose tokens ``[T, C]`` stand one after the other."""
        # [T, 3C] -> [3, heads, T, C / heads], and of each image [heads, N, C / heads]
        qkv = weight_kernel(self.attn.in_proj_weight, self.attn.in_proj_bias, rows)(rows)
        qkv = qkv.view(rows.shape[0], 3, self.num_heads, -1).permute(1, 2, 0, 3)
        dropout = self.attn_drop.p if self.attn_drop.training else 0.0
        parts = [attend(*image[:, None].unbind(0), dropout=dropout) for image in qkv.split(lengths, dim=2)]
        x = torch.cat(parts, dim=1)[0]  # [1, T, C] -> [T, C]
        return self.gamma1(self.proj_drop(linear_kernel(self.attn.out_proj, x)(x)))

    def first_token_attention(self, x: Tensor) -> Tensor:
        """Attention of the first token to the others, averaged over the heads: ``[B, N, C] -> [B, N - 1]``."""
        batch, tokens, dims = x.shape
        q_weight, k_weight = self.attn.in_proj_weight[:dims], self.attn.in_proj_weight[dims : 2 * dims]
        bias = self.attn.in_proj_bias
        q_bias, k_bias = (None, None) if bias is None else (bias[:dims], bias[dims : 2 * dims])
        q = F.linear(x[:, :1], q_weight, q_bias).view(batch, 1, self.num_heads, -1).transpose(1, 2)
        k = F.linear(x, k_weight, k_bias).view(batch, tokens, self.num_heads, -1).transpose(1, 2)
        scores = (q @ k.transpose(-2, -1)).float() * self.head_dims**-0.5  # [B, heads, 1, N]
        return scores.softmax(-1).mean(1)[:, 0, 1:]


class ViTBlock(Chunked, BaseModule):
    """An encoder layer of a plain ViT, with the state-dict keys of mmseg's ``TransformerEncoderLayer``.

    As there, drop path is on the FFN alone.

    Args:
        embed_dims: Channels ``C``.
        num_heads: Attention heads.
        feedforward_channels: Hidden channels of the FFN.
        drop_rate: Dropout of the projection and in the FFN.
        attn_drop_rate: Dropout of attention weights.
        drop_path_rate: Chance of an image to skip the FFN in training.
        num_fcs: Linear layers of the FFN.
        qkv_bias: Whether the projections of attention have a bias.
        act_cfg: Activation of the FFN.
        norm_cfg: Norm layers.
        layer_scale_init_value: Start of a factor a channel on both branches; 0 for none.
        with_cp: Whether activations of the block are recomputed in the backward pass to save memory.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rate: float,
        num_fcs: int,
        qkv_bias: bool,
        act_cfg: dict,
        norm_cfg: dict,
        layer_scale_init_value: float,
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.norm1_name, norm1 = build_norm_layer(norm_cfg, embed_dims, postfix=1)
        self.add_module(self.norm1_name, norm1)
        self.attn = TokenAttention(embed_dims, num_heads, qkv_bias, attn_drop_rate, drop_rate, layer_scale_init_value)
        self.norm2_name, norm2 = build_norm_layer(norm_cfg, embed_dims, postfix=2)
        self.add_module(self.norm2_name, norm2)
        self.ffn = FFN(
            embed_dims=embed_dims,
            feedforward_channels=feedforward_channels,
            num_fcs=num_fcs,
            ffn_drop=drop_rate,
            dropout_layer=dict(type='DropPath', drop_prob=drop_path_rate) if drop_path_rate > 0 else None,
            act_cfg=act_cfg,
            layer_scale_init_value=layer_scale_init_value,
        )

    @property
    def norm1(self) -> nn.Module:
        return getattr(self, self.norm1_name)

    @property
    def norm2(self) -> nn.Module:
        return getattr(self, self.norm2_name)

    def forward(self, x: Tensor, alive: Tensor | None = None) -> Tensor:
        """Computes tokens.

        Args:
            x: ``[B, N, C]``.
            alive: ``[B, N]`` decisions. Dropped tokens are not attended to and keep their features: the result is
                ``x + alive * (block(x) - x)``. ``None`` where all are alive.

        Returns:
            ``[B, N, C]``.
        """
        if self.with_cp and self.training and torch.is_grad_enabled():
            return torch.utils.checkpoint.checkpoint(self._compute, x, alive, use_reentrant=False)
        return self._compute(x, alive)

    def _compute(self, x: Tensor, alive: Tensor | None) -> Tensor:
        y = self._feed_forward(x + self.attn(self.norm1(x), alive))
        return y if alive is None else x + alive[..., None].to(y.dtype) * (y - x)

    def forward_packed(self, packed: PackedTokens) -> PackedTokens:
        """Computes tokens of images that keep different numbers of them."""
        x = packed.rows
        y = x + self.attn.forward_packed(self.norm1(x), packed.lengths)
        return packed.with_rows(self._feed_forward(y))

    def _feed_forward(self, x: Tensor) -> Tensor:
        """The FFN with its residual, ``[..., C] -> [..., C]``; in inference over chunks of rows and in place."""
        chunk = self.rows_at_once(x, self.ffn.feedforward_channels)
        if chunk is None:
            return FeedForward(self.ffn, x)(self.norm2(x), identity=x)
        ffn = FeedForward(self.ffn, x)
        for rows in x.view(-1, x.shape[-1]).split(chunk):
            rows.copy_(ffn(self.norm2(rows), identity=rows))
        return x

    @torch.no_grad()
    def class_attention(self, x: Tensor) -> Tensor:
        """Attention that the class token, the first one, pays to the others here: ``[B, N, C] -> [B, N - 1]``."""
        return self.attn.first_token_attention(self.norm1(x))
