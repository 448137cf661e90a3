import torch
from torch import Tensor, nn

from ...ops import rows_per_chunk

__all__ = ['norm_to_map']


def norm_to_map(tokens: Tensor, norm: nn.Module, hw_shape: tuple[int, int]) -> Tensor:
    """A norm of every token and then the map that necks take.

    The map is contiguous: operators of mmcv read channels-last ones wrongly.

    Args:
        tokens: ``[B, L, C]``.
        norm: Of the channels.
        hw_shape: ``(H, W)``.

    Returns:
        ``[B, C, H, W]``.
    """
    batch, length, dims = tokens.shape
    chunk = None if torch.is_grad_enabled() else rows_per_chunk(tokens, dims)
    if chunk is None:
        return norm(tokens).transpose(1, 2).contiguous().view(batch, dims, *hw_shape)
    # Over chunks of tokens, which are transposed while they are in the caches.
    result = None
    chunk = max(1, chunk // batch)
    for start in range(0, length, chunk):
        part = norm(tokens[:, start : start + chunk]).transpose(1, 2)
        result = part.new_empty(batch, dims, length) if result is None else result
        result[:, :, start : start + chunk] = part
    return result.view(batch, dims, *hw_shape)
