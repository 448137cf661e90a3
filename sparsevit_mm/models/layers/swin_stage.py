from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from ...ops import (
    IndexCache,
    WindowGrid,
    WindowRoute,
    add_spill_row,
    as_numbers,
    build_route,
    build_window_grid,
    drop_spill_row,
    images_of_windows,
)
from ...selectors import Selector
from ...sparsity import keep_count
from .idle import keep_in_graph
from .packages import Packages
from .window_choice import WindowChoice, WindowRanking, pack_windows, rank_windows

__all__ = ['StageObserver', 'SwinStage', 'WindowStage']

# Routes of all windows hold indices for a whole batch, so few are kept: those of both shifts at some sizes.
MOST_ROUTES = 8


class StageObserver(Protocol):
    """Who is told what the blocks of a stage do."""

    def computed(
        self, block: int, grid: WindowGrid, kept: Tensor | None, batch: int, members: Tensor | None = None
    ) -> None:
        """Before a block runs: the windows that it keeps.

        Their indices ``[B, K]``, or a mask ``[B, nW]`` where images have counts of their own; ``None`` for all.
        ``members [B, m, L]`` is 1 for the tokens that are in a package.
        """

    def wanted(self, block: int, ratio: Tensor) -> None:
        """The fraction of units ``[B]`` that a learning selector would keep, with a gradient."""

    def counted(self, block: int, counts: Tensor) -> None:
        """The windows ``[B]`` that a site keeps of each image, where images have counts of their own."""


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
        self._routes = IndexCache(MOST_ROUTES)
        self._images = IndexCache()

    def grid(self, hw_shape: tuple[int, int], shift: int, device: torch.device) -> WindowGrid:
        """The windows of a map at a shift, from the cache."""
        height, width = as_numbers(hw_shape)
        key = (height, width, shift, str(device))
        return self._grids.get(key, lambda: build_window_grid(height, width, self.window_size, shift, device))

    def route(self, grid: WindowGrid, batch: int) -> WindowRoute:
        """The rows of all windows of so many images, from the cache."""
        key = (grid.height, grid.width, grid.shift, batch, str(grid.rows.device))
        return self._routes.get(key, lambda: build_route(grid, batch))

    def images(self, batch: int, num_kept: int, device: torch.device) -> Tensor:
        """The image of each window where every image keeps as many, from the cache."""
        key = (batch, num_kept, str(device))
        return self._images.get(key, lambda: images_of_windows(batch, num_kept, device))

    def needs_spill_row(self, x: Tensor, grids: Sequence[WindowGrid]) -> bool:
        """Whether padding of these windows needs a row below the map ``x [B, L, C]`` that stands for it."""
        return any(grid.padded for grid in grids) and self.blocks[0].rows_at_once(x, 1) is None


class SwinStage(WindowStage):
    """Window blocks of one resolution, and the patch merging behind them.

    Windows are scored from the features before the first site that prunes, and ranked once for plain and once for
    shifted windows. Every block then keeps the best of its ranking; so later sites keep a part of what earlier ones
    kept, and what a pruned window looks like is not asked again, as in SparseViT. With a ranking a site, windows are
    scored again before each one.

    With package tokens, tokens that no block of a site computes are folded into one, which the windows of later blocks
    see; behind the last block they get what it has learned. A token that only the plain or only the shifted windows
    leave out is in no package.

    Args:
        blocks: The window blocks; even ones plain, odd ones shifted.
        window_size: Side of a window in tokens.
        selector: Scores the windows.
        downsample: Patch merging, ``None`` in the last stage.
        package: Where dropped tokens go: ``'separate'`` into a package token a site, ``'merged'`` into one for the
            stage, ``None`` nowhere.
        unfold: Whether tokens that went into a package get what it has learned, ``'residual'``, or stay as they were,
            ``'reuse'``.
        adaptive: Whether the scores decide how many windows of an image stay, and not its sparsity.
        ranking: How long a ranking lasts: for the ``'stage'`` or for one ``'site'``. Packages need one for the stage.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        window_size: int,
        selector: Selector,
        downsample: nn.Module | None,
        package: str | None = None,
        unfold: str = 'residual',
        adaptive: bool = False,
        ranking: str = 'stage',
    ) -> None:
        super().__init__(blocks, window_size)
        self.selector = selector
        self.downsample = downsample
        self.package, self.unfold, self.adaptive, self.ranking = package, unfold, adaptive, ranking

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
        counts = [keep_count(grid.num_windows, value) for grid, value in zip(grids, sparsity)]
        spill = self.needs_spill_row(x, grids)
        rows = add_spill_row(x) if spill else x.flatten(0, 1)
        rankings: dict[int, WindowRanking] = {}
        routes: dict[tuple[int, int, int], WindowRoute] = {}
        packages: Packages | None = None
        packed = 0  # windows that are kept where packages were made last
        for i, (block, grid, count) in enumerate(zip(self.blocks, grids, counts)):
            choice = None
            if count < grid.num_windows:
                tokens = drop_spill_row(rows, batch) if spill else rows.view_as(x)
                anew = self.ranking == 'site' and i % 2 == 0
                if anew or not rankings:
                    blocks = slice(i, i + 2) if anew else slice(None)
                    shown = [g for g, kept in zip(grids[blocks], counts[blocks]) if kept < g.num_windows]
                    rankings = rank_windows(self.selector, tokens, shown, count if self.adaptive else None)
                choice = rankings[grid.shift].choose(count)
                if self.package is not None and i % 2 == 0 and (not packed or (count < packed and not self.adaptive)):
                    if packages is not None and self.package == 'merged' and self.unfold == 'residual':
                        tokens, packages = packages.unfold(tokens)
                        rows = add_spill_row(tokens) if spill else tokens.flatten(0, 1)
                    own = [rankings[other.shift] for other in grids[i : i + 2]]
                    packages = pack_windows(packages, tokens, own, count, self.package == 'merged')
                    packed = count
            kept = grid.num_windows if choice is None or choice.everywhere else count
            key = (grid.shift, kept, i // 2 if self.ranking == 'site' else 0)
            if key not in routes:
                if choice is None or choice.everywhere:
                    routes[key] = self.route(grid, batch)
                else:
                    images = None if self.adaptive else self.images(batch, count, x.device)
                    routes[key] = choice.route(grid, images, whole=spill)
            self._tell(observe, i, grid, choice, packages, batch)
            decisions = None if choice is None else choice.decisions
            if packages is None:
                rows = block(rows, routes[key], grid, decisions)
            else:
                rows, seen = block.forward_with_packages(rows, routes[key], grid, packages.tokens, decisions)
                packages = replace(packages, tokens=seen)
        x = drop_spill_row(rows, batch) if spill else rows.view_as(x)
        if packages is not None and self.unfold == 'residual':
            x, _ = packages.unfold(x)
        return x if rankings else keep_in_graph(x, self.selector)

    def _tell(
        self,
        observe: StageObserver | None,
        block: int,
        grid: WindowGrid,
        choice: WindowChoice | None,
        packages: Packages | None,
        batch: int,
    ) -> None:
        if observe is None:
            return
        if choice is None:
            observe.computed(block, grid, None, batch)
            return
        if choice.ratio is not None:
            observe.wanted(block, choice.ratio)
        if self.adaptive:
            observe.counted(block, choice.counts)
        observe.computed(block, grid, choice.kept, batch, None if packages is None else packages.members)
