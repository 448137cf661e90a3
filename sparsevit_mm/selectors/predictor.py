import torch
import torch.nn.functional as F
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from ..registry import MODELS
from .learned import LearnedSelector, linear_in_float32, mean_over_alive

__all__ = ['PredictorSelector']


@MODELS.register_module()
class PredictorSelector(LearnedSelector):
    """The prediction module of DynamicViT (arXiv 2106.02034, eq. 1-3), also used by its Swin and ConvNeXt.

    Half of a token's channels describe it alone, the other half are averaged over the image. From both a small network
    gives two log-probabilities, the first of which is that of staying (as in the released code; the paper counts the
    other way round). A score is their difference. State-dict keys are those of the released code.

    Args:
        embed_dims: Channels of the features ``C``.
        draw: How decisions are made in training, see :class:`LearnedSelector`.
        temperature: Of the straight-through gradient.
        noise: Factor of the Gumbel noise in training.
        learn_from: Which windows are computed in training, likewise.
    """

    def __init__(
        self,
        embed_dims: int | None = None,
        draw: str = 'topk',
        temperature: float = 1.0,
        noise: float = 1.0,
        learn_from: str = 'all',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(embed_dims, draw, temperature, noise, learn_from, init_cfg)
        self.in_conv = nn.Sequential(nn.LayerNorm(embed_dims), nn.Linear(embed_dims, embed_dims), nn.GELU())
        self.out_conv = nn.Sequential(
            nn.Linear(embed_dims, embed_dims // 2),
            nn.GELU(),
            nn.Linear(embed_dims // 2, embed_dims // 4),
            nn.GELU(),
            nn.Linear(embed_dims // 4, 2),
            nn.LogSoftmax(dim=-1),
        )

    def init_weights(self) -> None:
        """Weights from ``init_cfg``, or normal ones with a standard deviation of 0.02."""
        if self.init_cfg is not None:
            super().init_weights()
            return
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, alive: Tensor | None = None, class_attention: Tensor | None = None) -> Tensor:
        """Log-odds of staying, ``[B, L, C] -> [B, L]``; see :meth:`Selector.forward`."""
        with torch.autocast(tokens.device.type, enabled=False):
            keep, drop = self.log_probabilities(tokens, alive).unbind(-1)
            return keep - drop

    def log_probabilities(self, tokens: Tensor, alive: Tensor | None = None) -> Tensor:
        """Log-probabilities of staying and of leaving, ``[B, L, C] -> [B, L, 2]``."""
        norm, linear, activation = self.in_conv
        # Parameters may be in half precision where a whole model is.
        x = F.layer_norm(tokens.float(), norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps)
        x = activation(linear_in_float32(x, linear))
        local, shared = x.split([x.shape[-1] // 2, x.shape[-1] - x.shape[-1] // 2], dim=-1)
        shared = mean_over_alive(shared, alive).expand(-1, x.shape[1], -1)
        x = torch.cat([local, shared], dim=-1)
        for layer in self.out_conv:
            x = linear_in_float32(x, layer) if isinstance(layer, nn.Linear) else layer(x)
        return x

    def count_macs(self, num_units: int) -> int:
        """Multiply-adds of scoring so many units of one image."""
        weights = [layer.weight.numel() for layer in (*self.in_conv, *self.out_conv) if isinstance(layer, nn.Linear)]
        return num_units * sum(weights)
