"""Softmax attention, by the kernels that are fastest for its size."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .linear import inference_dtype

__all__ = ['attend']

# On the CPU, torch's fused attention is made for long sequences of float32: two batched products with a softmax between
# take 0.6 of its time on windows of 49 tokens, as long as it for 200 tokens, and in bfloat16 0.4 of it for 1000 tokens.
SHORT = 128
# With gradients and in bfloat16 it takes six times as long for windows of 49 tokens, 1.6 to 2.1 times for 400 to 1000,
# and as long for 2300, where its scores would take much memory.
LEARNT = 1536
# Scores that are computed at once, which should stay in the caches with their float32: for 4 MiB 513 tokens take twice
# as long, and for 1 MiB 3970 tokens half as long again.
SCORE_BYTES = 2 << 20


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None = None,
    kinds: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attends within each of ``M`` windows or images.

    Args:
        q: ``[M, heads, N, d]``.
        k: ``[M, heads, N', d]``.
        v: ``[M, heads, N', d]``.
        bias: ``[1, heads, N, N']`` added to the scores, or one for each kind of window.
        kinds: ``[M]`` the kind of each window; ``None`` if there is one kind.
        scale: Factor of the scores; ``d ** -0.5`` if not given.
        dropout: Of the attention weights.

    Returns:
        ``[M, N, heads * d]``.
    """
    dtype = None if dropout else inference_dtype(q)
    composed = dtype is not None and (dtype != torch.float32 or k.shape[2] <= SHORT)
    if bias is not None:
        bias = bias.to(dtype if composed else q.dtype)
        bias = bias if kinds is None else bias.index_select(0, kinds)  # [M, heads, N, N']
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if composed:
        x = _composed(q.to(dtype), k.to(dtype), v.to(dtype), bias, scale)
    elif _learns_slowly(q, k, bias):
        x = _learning(q, k, v, bias, scale, dropout)
    else:
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=scale)
    return x.transpose(1, 2).flatten(2)


def _composed(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Attention as products and softmax, some heads or queries at a time; shapes as for :func:`attend`.

    Returns:
        ``[M, heads, N, d]``.
    """
    windows, heads, tokens, dims = q.shape
    q, k, v = (part.reshape(windows * heads, -1, dims) for part in (q, k, v))
    if bias is not None:  # windows come in chunks already
        return _weighted(q, k, v, bias, scale).view(windows, heads, tokens, dims)
    head_bytes = tokens * k.shape[1] * q.element_size()
    pieces = round(head_bytes / SCORE_BYTES)
    if pieces > 1:  # the scores of a single head are too many
        queries = -(-tokens // pieces)
        split = zip(q.unbind(), k.unbind(), v.unbind())
        parts = [_weighted(some[None], k[None], v[None], None, scale) for q, k, v in split for some in q.split(queries)]
        return torch.cat(parts, 1).view(windows, heads, tokens, dims)
    split = zip(*(part.split(max(1, SCORE_BYTES // head_bytes)) for part in (q, k, v)))
    parts = [_weighted(*some, None, scale) for some in split]
    return (torch.cat(parts) if len(parts) > 1 else parts[0]).view(windows, heads, tokens, dims)


def _learns_slowly(q: Tensor, k: Tensor, bias: Tensor | None) -> bool:
    """Whether torch's attention is slower than its parts when there are gradients, on the CPU.

    It has no fused kernel there that learns a bias, and what it takes instead looks for rows of which everything is
    masked, which is a tenth of a step of a narrow Swin; windows and images have none. The fused one is made for
    float32.
    """
    if q.device.type != 'cpu' or not (torch.is_grad_enabled() and q.requires_grad):
        return False
    return bias is not None or (q.dtype != torch.float32 and k.shape[2] <= LEARNT)


def _learning(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, dropout: float) -> Tensor:
    """Attention whose parts have gradients; shapes as for :func:`attend`."""
    scores = torch.matmul(q * scale, k.transpose(-2, -1))
    scores = scores if bias is None else scores + bias
    return torch.matmul(F.dropout(scores.softmax(-1), dropout), v)


def _weighted(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """``[M * heads, N, d]`` and twice ``[M * heads, N', d]`` to ``[M * heads, N, d]``; bias as in :func:`attend`."""
    # With beta=0 the first argument is not read.
    scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=scale)
    if bias is not None:
        scores.view(-1, *bias.shape[1:]).add_(bias)
    # In bfloat16 a softmax takes twice as long as in float32, more than both casts.
    return torch.bmm(scores.softmax(-1, dtype=torch.float32).to(q.dtype), v)
