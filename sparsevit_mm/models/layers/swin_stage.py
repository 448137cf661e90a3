from collections.abc import Callable, Sequence

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
    rank_units,
)
from ...selectors import Selector
from ...sparsity import keep_count

__all__ = ['SwinStage']

# Called with (block, grid, kept windows [B, K] or None for all, batch) before a block runs.
Observer = Callable[[int, WindowGrid, Tensor | None, int], None]


class SwinStage(BaseModule):
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
        super().__init__()
        self.blocks = ModuleList(blocks)
        self.window_size = window_size
        self.selector = selector
        self.downsample = downsample
        self._grids = IndexCache()

    def grid(self, hw_shape: tuple[int, int], shift: int, device: torch.device) -> WindowGrid:
        """The windows of a map at a shift, from the cache."""
        key = (*hw_shape, shift, str(device))
        return self._grids.get(key, lambda: build_window_grid(*hw_shape, self.window_size, shift, device))

    def forward(
        self, x: Tensor, hw_shape: tuple[int, int], sparsity: Sequence[float], observe: Observer | None = None
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
        spill = any(grid.padded for grid in grids)
        rows = add_spill_row(x) if spill else x.flatten(0, 1)
        scores: Tensor | None = None
        ranks: dict[int, Tensor] = {}
        routes: dict[tuple[int, int], WindowRoute] = {}
        for i, (block, grid, count) in enumerate(zip(self.blocks, grids, kept)):
            chosen = None
            if count < grid.num_windows:
                if scores is None:
                    scores = self.selector(drop_spill_row(rows, batch) if spill else rows.view_as(x))
                if grid.shift not in ranks:
                    ranks[grid.shift] = rank_units(self.selector.window_scores(scores, grid))
                chosen = ranks[grid.shift][:, :count]
            key = (grid.shift, count)
            if key not in routes:
                routes[key] = build_route(grid, batch, chosen)
            if observe is not None:
                observe(i, grid, chosen, batch)
            rows = block(rows, routes[key], grid)
        return drop_spill_row(rows, batch) if spill else rows.view_as(x)
