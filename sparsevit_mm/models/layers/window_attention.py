import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

__all__ = ['WindowAttention']


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
        tokens = self.window_size**2
        # [N * N, heads] -> [heads, N, N]
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.view(tokens, tokens, -1).permute(2, 0, 1).contiguous()
        return bias[None] if masks is None else bias[None] + masks[:, None].to(bias.dtype)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attends within each window.

        Args:
            x: ``[windows, N, C]``.
            bias: ``[1 or windows, heads, N, N]``, added to the scores.

        Returns:
            ``[windows, N, C]``.
        """
        windows, tokens, dims = x.shape
        # [windows, N, 3C] -> 3 x [windows, heads, N, C / heads]
        qkv = self.qkv(x).view(windows, tokens, 3, self.num_heads, dims // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=bias.to(q.dtype),
            dropout_p=self.attn_drop.p if self.attn_drop.training else 0.0,
            scale=self.scale,
        )
        x = x.transpose(1, 2).reshape(windows, tokens, dims)
        return self.proj_drop(self.proj(x))
