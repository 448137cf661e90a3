from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from ...ops import (
    IndexCache,
    WindowGrid,
    WindowRoute,
    add_spill_row,
    build_route,
    build_window_grid,
    drop_spill_row,
    keep_mask,
    rank_units,
    straight_through,
)
from ...selectors import Selector
from ...sparsity import keep_count
from .idle import keep_in_graph

__all__ = ['StageObserver', 'SwinStage', 'WindowStage']


class StageObserver(Protocol):
    """Who is told what the blocks of a stage do."""

    def computed(self, block: int, grid: WindowGrid, kept: Tensor | None, batch: int) -> None:
        """Before a block runs: the windows that it keeps, ``[B, K]``, or ``None`` for all."""

    def wanted(self, block: int, ratio: Tensor) -> None:
        """The fraction of units ``[B]`` that a learning selector would keep, with a gradient."""


class WindowStage(BaseModule):
    """What stages of window blocks have in common.

    Args:
        blocks: The window blocks; even ones plain, odd ones shifted.
        window_size: Side of a window in tokens.
    """

    def __init__(self, blocks: Sequence[nn.Module], window_size: int) -> None:
        super().__init__()
        self.blocks = ModuleList(blocks)
        self.window_size = window_size
        self._grids = IndexCache()

    def grid(self, hw_shape: tuple[int, int], shift: int, device: torch.device) -> WindowGrid:
        """The windows of a map at a shift, from the cache."""
        key = (*hw_shape, shift, str(device))
        return self._grids.get(key, lambda: build_window_grid(*hw_shape, self.window_size, shift, device))


class SwinStage(WindowStage):
    """Window blocks of one resolution, and the patch merging behind them.

    Windows are scored once, from the features before the first site that prunes, and ranked once for plain and once
    for shifted windows. Every block then keeps the best of its ranking; so later sites keep a part of what earlier
    ones kept, and what a pruned window looks like is not asked again, as in SparseViT.

    Args:
        blocks: The window blocks; even ones plain, odd ones shifted.
        window_size: Side of a window in tokens.
        selector: Scores the windows.
        downsample: Patch merging, ``None`` in the last stage.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], window_size: int, selector: Selector, downsample: nn.Module | None
    ) -> None:
        super().__init__(blocks, window_size)
        self.selector = selector
        self.downsample = downsample

    def forward(
        self, x: Tensor, hw_shape: tuple[int, int], sparsity: Sequence[float], observe: StageObserver | None = None
    ) -> Tensor:
        """Runs the blocks.

        Args:
            x: ``[B, L, C]``. May be changed in place.
            hw_shape: ``(H, W)``.
            sparsity: One value for each block.
            observe: Told of every block what it keeps.

        Returns:
            ``[B, L, C]`` features before patch merging.
        """
        batch = x.shape[0]
        grids = [self.grid(hw_shape, block.shift_size, x.device) for block in self.blocks]
        kept = [keep_count(grid.num_windows, value) for grid, value in zip(grids, sparsity)]
        pruned = [i for i, (grid, count) in enumerate(zip(grids, kept)) if count < grid.num_windows]
        spill = any(grid.padded for grid in grids)
        rows = add_spill_row(x) if spill else x.flatten(0, 1)
        rankings: dict[int, _Ranking] = {}
        routes: dict[tuple[int, int], WindowRoute] = {}
        for i, (block, grid, count) in enumerate(zip(self.blocks, grids, kept)):
            chosen = decisions = None
            everywhere = False
            if i in pruned:
                if not rankings:
                    tokens = drop_spill_row(rows, batch) if spill else rows.view_as(x)
                    rankings = self._rank(tokens, [grids[j] for j in pruned])
                ranking = rankings[grid.shift]
                chosen, decisions, everywhere = ranking.best(count), ranking.decisions(count), ranking.everywhere
                if observe is not None and ranking.ratio is not None:
                    observe.wanted(i, ranking.ratio)
            key = (grid.shift, grid.num_windows if everywhere else count)
            if key not in routes:
                routes[key] = build_route(grid, batch, None if everywhere else chosen)
            if observe is not None:
                observe.computed(i, grid, chosen, batch)
            rows = block(rows, routes[key], grid, decisions)
        x = drop_spill_row(rows, batch) if spill else rows.view_as(x)
        return x if rankings else keep_in_graph(x, self.selector)

    def _rank(self, tokens: Tensor, grids: Sequence[WindowGrid]) -> dict[int, '_Ranking']:
        """Ranks the windows of each shift, by the features of this moment."""
        grids = list({grid.shift: grid for grid in grids}.values())
        selector = self.selector
        learning = selector.learns and self.training and torch.is_grad_enabled()
        if learning:
            tokens = tokens.clone()  # blocks change the map in place
        rankings = {}
        for grid, scores in zip(grids, selector.score_windows(tokens, grids)):
            noisy = selector.perturb(scores) if learning else None
            rankings[grid.shift] = _Ranking(
                order=rank_units(scores.detach() if noisy is None else noisy.detach()),
                noisy=noisy,
                temperature=selector.temperature if learning else 1.0,
                ratio=selector.keep_ratio(scores, None) if learning else None,
                everywhere=learning and selector.learn_from == 'all',
            )
        return rankings


@dataclass(frozen=True, eq=False)
class _Ranking:
    """The windows of one shift from the best to the worst.

    Args:
        order: ``[B, nW]`` indices.
        noisy: ``[B, nW]`` perturbed log-odds where a selector is learning from them.
        temperature: Of the straight-through gradient.
        ratio: ``[B]`` the fraction of windows that the selector would keep if it were free.
        everywhere: Whether all windows are computed, so that all have a decision.
    """

    order: Tensor
    noisy: Tensor | None
    temperature: float
    ratio: Tensor | None
    everywhere: bool

    def best(self, count: int) -> Tensor:
        """``[B, K]`` indices of the best windows."""
        return self.order[:, :count]

    def decisions(self, count: int) -> Tensor | None:
        """Decisions that teach the selector: ones ``[B, K]`` of the best windows, or ``[B, nW]`` of all."""
        if self.noisy is None:
            return None
        best, noisy = self.best(count), self.noisy
        if self.everywhere:
            return straight_through(keep_mask(best, noisy.shape[1]), noisy, self.temperature)
        return straight_through(torch.ones_like(best), noisy.gather(1, best), self.temperature)
