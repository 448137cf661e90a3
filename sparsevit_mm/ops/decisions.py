"""Decisions that can be learned: hard in the forward pass, soft in the backward pass (straight-through).

A learned selector gives each unit the log-odds of staying. In training they are perturbed by the difference of two
Gumbel variables, which makes the choice between "stay" and "go" a Gumbel-softmax of two classes (DynamicViT, arXiv
2106.02034, eq. 4; Jang et al., arXiv 1611.01144).
"""

import torch
from torch import Tensor

__all__ = ['keep_mask', 'perturb', 'straight_through']


def perturb(log_odds: Tensor, scale: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """Log-odds plus logistic noise, which is the difference of two Gumbel variables.

    Args:
        log_odds: Of staying, any shape, float32.
        scale: Factor of the noise; 0 adds none and draws no random numbers.
        generator: Source of the noise; torch's own if not given.
    """
    if scale == 0:
        return log_odds
    uniform = torch.rand(log_odds.shape, device=log_odds.device, generator=generator, dtype=torch.float32)
    limit = torch.finfo(torch.float32).eps
    return log_odds + scale * torch.logit(uniform.clamp(limit, 1 - limit))


def straight_through(hard: Tensor, log_odds: Tensor, temperature: float) -> Tensor:
    """Decisions with the values of ``hard`` and the gradient of the soft choice ``sigmoid(log_odds / temperature)``.

    Args:
        hard: 1 for units that stay, 0 for others; broadcastable to ``log_odds``.
        log_odds: What the choice was made by, perturbed in training.
        temperature: Of the softmax; low ones are near the hard choice, with steep gradients.
    """
    soft = torch.sigmoid(log_odds / temperature)
    return hard.to(soft.dtype) + (soft - soft.detach())


def keep_mask(kept: Tensor, num_units: int) -> Tensor:
    """``[B, K]`` indices of kept units as a mask ``[B, U]``, true where a unit stays."""
    mask = torch.zeros(kept.shape[0], num_units, dtype=torch.bool, device=kept.device)
    return mask.scatter(1, kept, True)
