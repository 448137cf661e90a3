"""Which windows of a stage stay, and what of the map they leave out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...ops import (
    WindowGrid,
    WindowRoute,
    build_ragged_route,
    build_route,
    keep_mask,
    rank_units,
    straight_through,
)
from ...selectors import Selector
from .packages import Packages

__all__ = ['WindowChoice', 'WindowRanking', 'pack_windows', 'rank_windows']

# Mass of a package that nothing is in: next to that of any that has members it is nothing.
_EMPTY = 1e-5


@dataclass(frozen=True, eq=False)
class WindowChoice:
    """The windows of a block.

    Args:
        kept: ``[B, K]`` indices of those that stay, or a mask ``[B, nW]`` where images keep different numbers.
        decisions: What teaches the selector: ones ``[B, K]`` of the windows kept, ``[B, nW]`` of all, or ``None``.
        ratio: ``[B]`` the fraction of windows that a learning selector wants to keep, with a gradient.
        everywhere: Whether all windows are computed, so that all have a decision.
    """

    kept: Tensor
    decisions: Tensor | None = None
    ratio: Tensor | None = None
    everywhere: bool = False

    @property
    def counts(self) -> Tensor:
        """``[B]`` windows that stay, where images keep different numbers."""
        return self.kept.sum(1)

    def route(self, grid: WindowGrid, images: Tensor | None = None, whole: bool = True) -> WindowRoute:
        """The rows of the windows that stay.

        Args:
            grid: The windows.
            images: ``[B * K]`` the image of each that stays, where all images keep as many and it is at hand.
            whole: Whether blocks may run it at once, with a spill row for padding; else they split it.
        """
        if self.kept.dtype == torch.bool:
            return build_ragged_route(grid, self.kept, whole)
        return build_route(grid, self.kept.shape[0], self.kept, images, whole)


@dataclass(frozen=True, eq=False)
class WindowRanking:
    """The windows of one shift from the best to the worst.

    Args:
        selector: Who scored them.
        grid: The windows.
        scores: ``[B, nW]``.
        noisy: ``[B, nW]`` perturbed log-odds where the selector is learning.
        order: ``[B, nW]`` indices.
        chosen: ``[B, nW]``, true for those that stay, where the scores decide how many.
    """

    selector: Selector
    grid: WindowGrid
    scores: Tensor
    noisy: Tensor | None
    order: Tensor
    chosen: Tensor | None = None

    def choose(self, count: int) -> WindowChoice:
        """The best ``count`` windows of every image, or as many as its scores ask for."""
        if self.chosen is not None:
            return self._choose_by_scores()
        best = self.order[:, :count]
        if self.noisy is None:
            return WindowChoice(best)
        ratio = self.selector.keep_ratio(self.scores, None)
        if self.selector.learn_from == 'all':
            return WindowChoice(best, self.stays(count), ratio, everywhere=True)
        taught = straight_through(torch.ones_like(best), self.noisy.gather(1, best), self.selector.temperature)
        return WindowChoice(best, taught, ratio)

    def stays(self, count: int) -> Tensor:
        """``[B, nW]``, 1 for the windows that :meth:`choose` keeps, with a gradient where the selector is learning."""
        hard = self.chosen
        if hard is None:
            hard = keep_mask(self.order[:, :count], self.order.shape[1])
        return hard.float() if self.noisy is None else straight_through(hard, self.noisy, self.selector.temperature)

    def _choose_by_scores(self) -> WindowChoice:
        if self.noisy is None:
            return WindowChoice(self.chosen)
        stays = self.stays(0)
        return WindowChoice(self.chosen, stays, self.selector.keep_ratio(self.scores, stays), everywhere=True)


def rank_windows(
    selector: Selector, tokens: Tensor, grids: Sequence[WindowGrid], count: int | None = None
) -> dict[int, WindowRanking]:
    """Ranks the windows of each shift, by the features of this moment.

    Args:
        selector: Scores them.
        tokens: ``[B, L, C]``.
        grids: The windows.
        count: Windows of an image that stay on average, where the scores decide how many; ``None`` where they do not.

    Returns:
        A ranking for each shift.
    """
    grids = list({grid.shift: grid for grid in grids}.values())
    learning = selector.learns and selector.training and torch.is_grad_enabled()
    if learning:
        tokens = tokens.clone()  # blocks change the map in place
    rankings = {}
    for grid, scores in zip(grids, selector.score_windows(tokens, grids)):
        noisy = selector.perturb(scores) if learning else None
        scores = scores if learning else scores.detach()
        order = rank_units(scores if noisy is None else noisy.detach())
        chosen = None
        if count is not None:
            chosen = selector.choose(scores.detach(), None if noisy is None else noisy.detach(), count)
        rankings[grid.shift] = WindowRanking(selector, grid, scores, noisy, order, chosen)
    return rankings


def pack_windows(
    packages: Packages | None, tokens: Tensor, rankings: Sequence[WindowRanking], count: int, merged: bool
) -> Packages:
    """The packages from a site on.

    What no block of the site computes, and is in no package yet, goes into a new one. Where an image has nothing to
    pack, since the windows of one shift cover what those of the other leave out, its package is the mean of its map:
    whether there is a package must not depend on the image.

    Args:
        packages: Those of the sites before.
        tokens: ``[B, L, C]`` of this moment.
        rankings: Of the shifts of the site's blocks, the plain one first.
        count: Windows that its blocks keep.
        merged: Whether the new package goes into the one before.
    """
    gone = tokens.new_ones(tokens.shape[:2], dtype=torch.float32)
    for ranking in rankings:
        gone = gone * (1 - ranking.stays(count)[:, ranking.grid.owners])
    if packages is not None:
        gone = gone - packages.members.sum(1)
    first = rankings[0]
    weights = gone
    if first.selector.learns:
        weights = gone * torch.sigmoid(first.scores)[:, first.grid.owners]
    empty = weights.detach().sum(1, keepdim=True) == 0
    weights = torch.where(empty, _EMPTY / weights.shape[1], weights)
    if weights.requires_grad:
        tokens = tokens.clone()  # as above
    new = Packages.fold(tokens, weights, gone)
    if packages is None:
        return new
    both = packages.beside(new)
    return both.merged() if merged else both
