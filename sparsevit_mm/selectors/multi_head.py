import torch
import torch.nn.functional as F
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from ..registry import MODELS
from .learned import LearnedSelector, linear_in_float32, mean_over_alive

__all__ = ['MultiHeadSelector']


@MODELS.register_module()
class MultiHeadSelector(LearnedSelector):
    """The attention-based multi-head token selector of SPViT (arXiv 2112.13890, section 3.1).

    The channels of a token are split into heads. In each head a small network, like that of DynamicViT, gives the
    probability of staying ``t_i`` from the head's own channels and from their mean over the image; a squeeze-and-excite
    branch weighs the heads, ``a_i``; and the probability is ``sum_i a_i t_i / sum_i a_i``. A score is its log-odds.

    In the paper each head has weights of its own; the released code uses one network for all of them, which
    ``share_heads`` gives.

    Args:
        embed_dims: Channels of the features ``C``.
        num_heads: Heads ``h`` that the channels are split into. Backbones pass the attention heads of the block that
            follows, if it is not given.
        share_heads: Whether all heads have the same weights.
        draw: How decisions are made in training, see :class:`LearnedSelector`.
        temperature: Of the straight-through gradient.
        noise: Factor of the Gumbel noise in training.
        learn_from: Which windows are computed in training, likewise.
    """

    wants_num_heads = True

    def __init__(
        self,
        embed_dims: int | None = None,
        num_heads: int | None = None,
        share_heads: bool = False,
        draw: str = 'topk',
        temperature: float = 1.0,
        noise: float = 1.0,
        learn_from: str = 'all',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(embed_dims, draw, temperature, noise, learn_from, init_cfg)
        if isinstance(num_heads, bool) or not isinstance(num_heads, int) or num_heads < 1 or embed_dims % num_heads:
            raise ValueError(
                f'num_heads of MultiHeadSelector must divide the {embed_dims} channels of the features, got '
                f'{num_heads!r}.'
            )
        dims = embed_dims // num_heads
        if dims < 4:
            raise ValueError(
                f'num_heads={num_heads} of MultiHeadSelector leaves {dims} of {embed_dims} channels to a head, 4 at '
                f'least are needed: take {embed_dims // 4} heads or fewer.'
            )
        self.num_heads = num_heads
        groups = 1 if share_heads else num_heads
        self.in_norm = _HeadNorm(groups, dims)
        self.in_proj = _HeadLinear(groups, dims, dims)
        self.out_proj = nn.ModuleList(
            [
                _HeadLinear(groups, dims, dims // 2),
                _HeadLinear(groups, dims // 2, dims // 4),
                _HeadLinear(groups, dims // 4, 2),
            ]
        )
        hidden = max(1, num_heads // 2)
        self.head_weights = nn.Sequential(
            nn.Linear(num_heads, hidden), nn.GELU(), nn.Linear(hidden, num_heads), nn.Sigmoid()
        )

    def init_weights(self) -> None:
        """Weights from ``init_cfg``, or normal ones with a standard deviation of 0.02."""
        if self.init_cfg is not None:
            super().init_weights()
            return
        for module in self.modules():
            if isinstance(module, _HeadLinear | nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, _HeadNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, alive: Tensor | None = None, class_attention: Tensor | None = None) -> Tensor:
        """Log-odds of staying, ``[B, L, C] -> [B, L]``; see :meth:`Selector.forward`."""
        with torch.autocast(tokens.device.type, enabled=False):
            stay = torch.logsumexp(self._weighted(tokens, alive), dim=-2)  # [B, L, 2]
            return stay[..., 0] - stay[..., 1]

    def _weighted(self, tokens: Tensor, alive: Tensor | None) -> Tensor:
        """``log(a_i t_i)`` of staying and leaving, ``[B, L, C] -> [B, L, h, 2]``; they share the divisor."""
        x = tokens.float().unflatten(-1, (self.num_heads, -1))  # [B, L, h, d]
        first, activation, second, gate = self.head_weights
        weights = gate(linear_in_float32(activation(linear_in_float32(x.mean(-1), first)), second))  # [B, L, h]
        y = F.gelu(self.in_proj(self.in_norm(x)))
        local, shared = y.split([y.shape[-1] // 2, y.shape[-1] - y.shape[-1] // 2], dim=-1)
        y = torch.cat([local, mean_over_alive(shared, alive).expand_as(shared)], dim=-1)
        for i, layer in enumerate(self.out_proj):
            y = layer(F.gelu(y) if i else y)
        return weights.clamp(min=1e-12).log()[..., None] + y.log_softmax(-1)

    def count_macs(self, num_units: int) -> int:
        """Multiply-adds of scoring so many units of one image."""
        heads = sum(layer.weight[0].numel() for layer in (self.in_proj, *self.out_proj)) * self.num_heads
        return num_units * (
            heads + sum(layer.weight.numel() for layer in self.head_weights if hasattr(layer, 'weight'))
        )


class _HeadLinear(nn.Module):
    """A linear layer for each head, or one for all: ``[B, L, h, I] -> [B, L, h, O]``.

    Args:
        groups: Heads with weights of their own, 1 for weights that all share.
        in_dims: ``I``.
        out_dims: ``O``.
    """

    def __init__(self, groups: int, in_dims: int, out_dims: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(groups, out_dims, in_dims))
        self.bias = nn.Parameter(torch.zeros(groups, out_dims))
        trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        if len(self.weight) == 1:
            return F.linear(x, self.weight[0].float(), self.bias[0].float())
        return torch.einsum('blhi,hoi->blho', x, self.weight.float()) + self.bias.float()


class _HeadNorm(nn.Module):
    """A layer norm over the channels of each head, ``[B, L, h, d]``, with weights as in :class:`_HeadLinear`."""

    def __init__(self, groups: int, dims: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(groups, dims))
        self.bias = nn.Parameter(torch.zeros(groups, dims))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:]) * self.weight.float() + self.bias.float()
