from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...ops import WindowGrid, WindowRoute, add_spill_row, drop_spill_row, write_rows
from .fast_path import FastPath
from .feed_forward import FeedForward
from .idle import keep_in_graph
from .swin_stage import WindowStage
from .two_path import PathChoice, PathObserver, PathSelectors, mix_paths
from .window_block import WindowBlock

__all__ = ['TwoPathSwinStage', 'TwoPathWindowBlock']


class TwoPathWindowBlock(WindowBlock):
    """A Swin block with a fast path beside its FFN; its attention sees every token.

    Args:
        embed_dims: Channels ``C``.
        drop_rate: Dropout, of the fast path too.
        **swin_block: All others of :class:`WindowBlock`.
    """

    def __init__(self, embed_dims: int, *, drop_rate: float, **swin_block: Any) -> None:
        super().__init__(embed_dims, drop_rate=drop_rate, **swin_block)
        self.fast = FastPath(embed_dims, drop_rate=drop_rate)

    def forward(
        self,
        rows: Tensor,
        route: WindowRoute,
        grid: WindowGrid,
        decisions: Tensor | None = None,
        choice: PathChoice | None = None,
    ) -> Tensor:
        """Computes the windows of a route, of all windows where tokens take two paths.

        Args:
            rows: As for :class:`WindowBlock`, likewise the next ones.
            route: The rows to compute.
            grid: The windows that the route was built from.
            decisions: Of a selector of windows.
            choice: The path of each token; ``None`` for the slow one for all.

        Returns:
            ``[R, C]``.
        """
        if choice is None:
            return super().forward(rows, route, grid, decisions)
        rows = self.attend(rows, route, grid)
        if not self.training and not torch.is_grad_enabled():
            return self._mix_in_place(rows, choice)
        spilled = rows.shape[0] > route.batch * grid.length
        x = drop_spill_row(rows, route.batch) if spilled else rows.view(route.batch, grid.length, -1)
        x = self._run(self._mix, x, choice)
        return add_spill_row(x) if spilled else x.flatten(0, 1)

    def _mix(self, x: Tensor, choice: PathChoice) -> Tensor:
        """Both paths with the residual, ``[B, L, C] -> [B, L, C]``; drop path is drawn once for an image."""
        return x + self.ffn.dropout_layer(mix_paths(x, choice, self._slow, self.fast))

    def _mix_in_place(self, rows: Tensor, choice: PathChoice) -> Tensor:
        """The same in inference, over chunks of rows."""
        chunk, ffn, fast = (
            self.rows_at_once(rows, self.ffn.feedforward_channels),
            FeedForward(self.ffn, rows),
            self.fast.kernel(rows),
        )
        for index, path in zip(choice.rows(), (lambda part: ffn.branch(self.norm2(part)), fast)):
            for part in (index,) if chunk is None else index.split(chunk):
                x = rows.index_select(0, part)
                rows = write_rows(rows, part, x + path(x))
        return rows

    def _slow(self, x: Tensor, decisions: Tensor | None = None) -> Tensor:
        """Norm and FFN, ``[..., C] -> [..., C]``; they take every token by itself, so decisions do not matter."""
        return self.ffn.layers(self.norm2(x))


class TwoPathSwinStage(WindowStage):
    """Window blocks of one resolution whose tokens take two paths from the first site on, and the patch merging.

    Args:
        blocks: The blocks; from the first site on they have a fast path.
        window_size: Side of a window in tokens.
        selectors: Of the sites.
        downsample: Patch merging, ``None`` in the last stage.
    """

    def __init__(
        self,
        blocks: Sequence[WindowBlock],
        window_size: int,
        selectors: PathSelectors,
        downsample: nn.Module | None,
    ) -> None:
        super().__init__(blocks, window_size)
        self.selectors = selectors
        self.downsample = downsample

    def forward(
        self, x: Tensor, hw_shape: tuple[int, int], sparsity: Sequence[float], observe: PathObserver | None = None
    ) -> Tensor:
        """Runs the blocks.

        Args:
            x: ``[B, L, C]``. May be changed in place.
            hw_shape: ``(H, W)``.
            sparsity: One value for each block.
            observe: Told of every block from the first site on.

        Returns:
            ``[B, L, C]`` features before patch merging.
        """
        batch, length, _ = x.shape
        grids = [self.grid(hw_shape, block.shift_size, x.device) for block in self.blocks]
        routes = {grid.shift: self.route(grid, batch) for grid in grids}
        spill = self.needs_spill_row(x, grids)
        rows = add_spill_row(x) if spill else x.flatten(0, 1)
        choice: PathChoice | None = None
        idle: list[BaseModule | None] = []
        for i, (block, grid, value) in enumerate(zip(self.blocks, grids, sparsity)):
            tokens = drop_spill_row(rows, batch) if spill else rows.view(batch, length, -1)
            choice = self.selectors.follow(i, choice, tokens, hw_shape, value, observe)
            if choice is None:
                rows = block(rows, routes[grid.shift], grid)
                idle += [self.selectors.at(i), getattr(block, 'fast', None)]
            else:
                rows = block(rows, routes[grid.shift], grid, choice=choice)
        x = drop_spill_row(rows, batch) if spill else rows.view(batch, length, -1)
        return keep_in_graph(x, *(module for module in idle if module is not None))
