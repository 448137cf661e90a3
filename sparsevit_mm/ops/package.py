"""Package tokens: what is dropped lives on as one weighted mean (SPViT, arXiv 2112.13890, section 3.2)."""

from torch import Tensor

__all__ = ['fold_tokens', 'merge_packages', 'unfold_tokens']

_TINY = 1e-6


def fold_tokens(tokens: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted mean of some tokens, ``P = sum_t s_t x_t / sum_t s_t``.

    Departure from the released code, which leaves out the divisor, so that its package grows with what is dropped.

    Args:
        tokens: ``[B, L, C]``.
        weights: ``[B, L]``, 0 for tokens that are not folded.

    Returns:
        The package ``[B, 1, C]`` and its mass ``sum_t s_t``, ``[B, 1]``. Zeros where nothing is folded.
    """
    weights = weights.float()
    mass = weights.sum(1, keepdim=True)
    package = (tokens.float() * weights[..., None]).sum(1, keepdim=True) / mass.clamp(min=_TINY)[..., None]
    return package.to(tokens.dtype), mass


def merge_packages(packages: Tensor, masses: Tensor) -> tuple[Tensor, Tensor]:
    """Several packages as one: their mean by mass, ``[B, m, C] -> [B, 1, C]``, and the mass, ``[B, m] -> [B, 1]``."""
    return fold_tokens(packages, masses)


def unfold_tokens(tokens: Tensor, members: Tensor, change: Tensor) -> Tensor:
    """Hands on to dropped tokens what their packages have learned.

    The inverse of folding: where a package did not change its tokens come back as they were.

    Args:
        tokens: ``[B, L, C]``.
        members: ``[B, m, L]``, 1 for tokens that are in a package.
        change: ``[B, m, C]``, the packages as they are less what they were.

    Returns:
        ``[B, L, C]``.
    """
    for member, step in zip(members.unbind(1), change.unbind(1)):
        tokens = tokens + (member[..., None] * step[:, None]).to(tokens.dtype)
    return tokens
