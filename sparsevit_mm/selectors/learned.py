"""Selectors with parameters: what they share whatever their network looks like."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor, nn

from ..ops import (
    WindowGrid,
    keep_above,
    keep_best_of_batch,
    keep_mask,
    linear_kernel,
    perturb,
    pool_windows,
    rank_units,
    straight_through,
)
from .base import Selector

__all__ = ['LearnedSelector', 'linear_in_float32', 'mean_over_alive']

DRAWS = ('topk', 'gumbel', 'batch')
LEARN_FROM = ('all', 'kept')
STEEPEST = 0.25  # slope of the sigmoid at 0
MOMENTUM = 0.05  # of the cut of a batch in the cut that evaluation uses


class LearnedSelector(Selector):
    """A selector whose scores are log-odds of staying, learned through straight-through decisions.

    In training the log-odds are perturbed by Gumbel noise; in evaluation they are taken as they are. How many units
    stay is then a question of ``draw``:

    - ``'topk'`` keeps the highest ones in the number that the sparsity asks for, in training as in evaluation. It
      follows a sparsity that is set, drawn at random by adaptation, or annealed by a schedule.
    - ``'gumbel'`` is as published: in training each unit decides for itself, and a keep-ratio loss draws their number
      to the target. (One unit stays at least, the best, as in evaluation.) Evaluation takes the highest ones, in the
      number that the sparsity asks for, or with adaptive counts of the backbone those that are more likely to stay than
      to go. Windows need adaptive counts for it.
    - ``'batch'`` is for adaptive counts: in training the best of all images of a batch stay, as many of each on average
      as the sparsity asks for. Where that cuts is remembered in ``cut``, a running mean, and evaluation keeps what is
      above it. So the number is right on average from the first step on, where free decisions have to find it.

    Args:
        embed_dims: Channels of the features.
        draw: ``'topk'``, ``'gumbel'`` or ``'batch'``.
        temperature: Of the straight-through gradient.
        noise: Factor of the Gumbel noise. 1 is the published one; 0 decides in training as in evaluation, which
            suits short training, since every unit has a gradient without it.
        learn_from: Of windows: ``'all'`` computes all in training, so those pruned say what they would have been worth,
            at the price of a dense step; ``'kept'`` computes only those kept, and they alone teach the selector, which
            is fast and learns little. Of tokens all teach, always.
    """

    learns = True

    def __init__(
        self,
        embed_dims: int | None = None,
        draw: str = 'topk',
        temperature: float = 1.0,
        noise: float = 1.0,
        learn_from: str = 'all',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(embed_dims, init_cfg)
        name = type(self).__name__
        if isinstance(embed_dims, bool) or not isinstance(embed_dims, int) or embed_dims < 4:
            raise ValueError(f'embed_dims of {name} must be the channels of the features, 4 at least: {embed_dims!r}.')
        if draw not in DRAWS:
            raise ValueError(f'draw of {name} must be one of {DRAWS}, got {draw!r}.')
        if not temperature > 0:
            raise ValueError(f'temperature of {name} must be above 0, got {temperature!r}.')
        self.draw = draw
        self.cut: Tensor | float = 0.0
        if draw == 'batch':
            del self.cut
            self.register_buffer('cut', torch.zeros(()))
            self.register_buffer('cuts_seen', torch.zeros((), dtype=torch.long))
        if not 0 <= noise < float('inf'):
            raise ValueError(f'noise of {name} must be 0 or more, got {noise!r}.')
        if learn_from not in LEARN_FROM:
            raise ValueError(f'learn_from of {name} must be one of {LEARN_FROM}, got {learn_from!r}.')
        self.temperature = temperature
        self.noise = noise
        self.learn_from = learn_from

    def score_windows(self, tokens: Tensor, grids: Sequence[WindowGrid]) -> list[Tensor]:
        """Log-odds of windows: each is scored like a token, by the mean of its tokens."""
        return [self(pool_windows(tokens, grid)) for grid in grids]

    def perturb(self, scores: Tensor) -> Tensor:
        """Log-odds with the noise of training."""
        return perturb(scores, self.noise)

    def decide(self, scores: Tensor, count: int, alive: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Training decisions for each unit.

        Args:
            scores: ``[B, U]`` log-odds.
            count: Units that stay.
            alive: ``[B, U]`` decisions of the site before, where those who left cannot come back.

        Returns:
            ``[B, U]`` decisions, 0 or 1, with a gradient to the scores and the earlier decisions; and ``[B, K]``
            the units that stay, in rank order, ``None`` where their number differs between images.
        """
        noisy = self.perturb(scores)
        kept = None
        if self.draw == 'topk':
            ranked = noisy if alive is None else noisy.masked_fill(alive.detach() == 0, -torch.inf)
            kept = rank_units(ranked.detach())[:, :count]
            hard = keep_mask(kept, scores.shape[1])
        else:
            hard = self.choose(scores.detach(), noisy.detach(), count, None if alive is None else alive.detach() > 0)
        decisions = straight_through(hard, noisy, self.temperature)
        return (decisions if alive is None else decisions * alive), kept

    def choose(
        self, scores: Tensor, noisy: Tensor | None = None, count: int = 1, allowed: Tensor | None = None
    ) -> Tensor:
        """Which units stay where every image has a number of its own.

        Args:
            scores: ``[B, U]`` log-odds.
            noisy: The same with the noise of training; ``None`` in evaluation.
            count: Units of an image that are to stay on average, in training with ``draw='batch'``.
            allowed: ``[B, U]``, true for the units that may.

        Returns:
            ``[B, U]``, true where a unit stays.
        """
        if noisy is None:
            return keep_above(scores - self.cut, allowed)
        if self.draw != 'batch':
            return keep_above(noisy, allowed)
        mask, cut = keep_best_of_batch(noisy, count, allowed)
        if self.noise:
            _, cut = keep_best_of_batch(scores, count, allowed)
        self._remember(cut)
        return mask

    @torch.no_grad()
    def _remember(self, cut: Tensor) -> None:
        """Take the cut of a batch, its mean over all processes, into the running mean."""
        cut = cut.clone()
        all_reduce(cut, op='mean')
        self.cuts_seen += 1
        self.cut.lerp_(cut.to(self.cut.dtype), (1 / self.cuts_seen).clamp(min=MOMENTUM).to(self.cut.dtype))

    def keep_ratio(self, scores: Tensor, decisions: Tensor | None, alive: Tensor | None = None) -> Tensor:
        """Fraction of all units that the selector wants to keep, ``[B]``, with a gradient.

        With free decisions it is their mean (DynamicViT, eq. 10). With a fixed number it is what free ones would give
        on average, since the mean of those made is the number asked for and teaches nothing. Its gradient then moves
        the scores of an image up or down together, and does not fade where they are high: the order is not its
        business, and a selector that is sure of all its units would never come back.

        Args:
            scores: ``[B, U]`` log-odds.
            decisions: ``[B, U]``, of :meth:`decide`; ``None`` in evaluation.
            alive: ``[B, U]`` decisions of the site before.
        """
        if self.draw == 'gumbel' and decisions is not None:
            return decisions.mean(1)
        level = STEEPEST * scores
        chance = torch.sigmoid(scores).detach() + (level - level.detach())
        return (chance if alive is None else chance * alive.detach()).mean(1)


def linear_in_float32(x: Tensor, layer: nn.Linear) -> Tensor:
    """A linear layer in float32, also where a whole model is in half precision."""
    if layer.weight.dtype == torch.float32:
        return linear_kernel(layer, x)(x)
    return F.linear(x, layer.weight.float(), layer.bias.float())


def mean_over_alive(x: Tensor, alive: Tensor | None) -> Tensor:
    """Mean over the units that are alive, ``[B, L, ...] -> [B, 1, ...]``; zeros where none is, and not 0 / 0."""
    if alive is None:
        return x.mean(1, keepdim=True)
    weights = alive.to(x.dtype).reshape(*alive.shape, *[1] * (x.ndim - 2))
    return (x * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp(min=1e-6)
