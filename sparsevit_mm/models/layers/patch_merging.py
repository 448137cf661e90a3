from functools import partial

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import PatchMerging
from torch import Tensor, nn

from ...ops import has_hooks, weight_kernel
from .chunked import Chunked

__all__ = ['FoldPatchMerging']


class FoldPatchMerging(Chunked, PatchMerging):
    """mmcv's patch merging without ``nn.Unfold``, where patches do not overlap.

    Same parameters, same result. The channels of a merged token stand pixel by pixel, so that whole tokens are copied,
    and the weights are brought into that order instead.
    """

    def forward(self, x: Tensor, input_size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        """Merges patches of a map.

        Args:
            x: ``[B, H * W, C]``.
            input_size: ``(H, W)``.

        Returns:
            ``[B, H' * W', C']`` and ``(H', W')``.
        """
        kernel = self.sampler.kernel_size
        folds = self.adaptive_padding is not None and self.sampler.stride == kernel
        plain = isinstance(self.norm, nn.LayerNorm | None) and not has_hooks(*self.children())
        if not folds or self.sampler.dilation != (1, 1) or not plain:
            return super().forward(x, input_size)
        batch, _, dims = x.shape
        height, width = input_size
        x = x.view(batch, height, width, dims)
        out = (-(-height // kernel[0]), -(-width // kernel[1]))
        pad = (out[0] * kernel[0] - height, out[1] * kernel[1] - width)
        if any(pad):
            x = F.pad(x, (0, 0, 0, pad[1], 0, pad[0]))  # corner padding
        # [B, H', k, W', k, C] -> [B * H', W', k, k, C]
        x = x.view(batch * out[0], kernel[0], out[1], kernel[1], dims).transpose(1, 2)
        return self._reduce(x, dims).view(batch, out[0] * out[1], -1), out

    def _reduce(self, x: Tensor, dims: int) -> Tensor:
        """Norm and reduction of patches, ``[lines, W', k, k, C] -> [lines, W', C']``; in inference over chunks."""
        norm, width = self.norm, self.reduction.in_features
        kernel = weight_kernel(self.reduction.weight, self.reduction.bias, x, partial(_pixels_first, dims=dims))
        if norm is not None:
            scale, shift = (None if part is None else _pixels_first(part, dims) for part in (norm.weight, norm.bias))
        chunk = self.rows_at_once(x, width)
        merged = []
        for part in (x,) if chunk is None else x.split(max(1, chunk // x.shape[1])):
            part = part.flatten(2)  # [lines, W', k * k * C]
            if norm is not None:
                part = F.layer_norm(part, part.shape[-1:], scale, shift, norm.eps)
            merged.append(kernel(part))
        return torch.cat(merged) if len(merged) > 1 else merged[0]


def _pixels_first(weight: Tensor, dims: int) -> Tensor:
    """Merged channels in the order of ``nn.Unfold``, ``[..., C * k * k]``, as ``[..., k * k * C]``."""
    return weight.unflatten(-1, (dims, -1)).transpose(-1, -2).flatten(-2)
