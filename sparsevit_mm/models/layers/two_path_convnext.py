from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from ...ops import write_rows
from .convnext_block import ConvNeXtBlock
from .fast_path import FastPath
from .idle import keep_in_graph
from .two_path import PathChoice, PathObserver, PathSelectors, mix_paths

__all__ = ['TwoPathConvNeXtBlock', 'TwoPathConvNeXtStage']


class TwoPathConvNeXtBlock(ConvNeXtBlock):
    """A ConvNeXt block with a fast path beside its MLP; its depthwise convolution sees every position.

    Args:
        channels: Channels ``C``.
        layer_scale_init_value: Of the MLP and of the fast path, each of which has a scale of its own.
        **convnext_block: All others of :class:`ConvNeXtBlock`.
    """

    def __init__(self, channels: int, *, layer_scale_init_value: float = 1e-6, **convnext_block: Any) -> None:
        super().__init__(channels, layer_scale_init_value=layer_scale_init_value, **convnext_block)
        self.fast = FastPath(channels, eps=self.norm.eps, layer_scale_init_value=layer_scale_init_value)

    def forward(self, x: Tensor, choice: PathChoice | None = None) -> Tensor:
        """Computes the block.

        Args:
            x: ``[B, H, W, C]``.
            choice: The path of each token; ``None`` for the slow one for all.

        Returns:
            ``[B, H, W, C]``.
        """
        return super().forward(x) if choice is None else self._run(x, choice)

    def _compute(self, x: Tensor, choice: PathChoice | None = None) -> Tensor:
        if choice is None:
            return super()._compute(x)
        tokens = self._look_around(x)
        chunk = self._chunk(tokens)
        if chunk is None:
            return x + self.drop_path(mix_paths(tokens, choice, self.slow, self.fast).view_as(x))
        rows, tokens, mixed = x.flatten(0, 2), tokens.flatten(0, 1), None
        for index, path in zip(choice.rows(), (self.slow_kernel(tokens), self.fast.kernel(tokens))):
            for part in index.split(chunk):
                result = rows.index_select(0, part) + path(tokens.index_select(0, part))
                mixed = result.new_empty(rows.shape) if mixed is None else mixed
                mixed = write_rows(mixed, part, result)
        return mixed.view_as(x)


class TwoPathConvNeXtStage(BaseModule):
    """Blocks of one resolution whose tokens take two paths from the first site on.

    The blocks are children named by their index, as in mmpretrain's stages. Selectors are no children: constructors
    of optimizers with layer-wise rates take every name below a stage for that of a block.

    Args:
        blocks: The blocks; from the first site on they have a fast path.
    """

    def __init__(self, blocks: Sequence[ConvNeXtBlock]) -> None:
        super().__init__()
        for i, block in enumerate(blocks):
            self.add_module(str(i), block)

    @property
    def blocks(self) -> list[ConvNeXtBlock]:
        """The blocks in order."""
        return [block for block in self.children() if isinstance(block, ConvNeXtBlock)]

    def forward(
        self,
        x: Tensor,
        sparsity: Sequence[float],
        selectors: PathSelectors,
        observe: PathObserver | None = None,
    ) -> Tensor:
        """Runs the blocks.

        Args:
            x: ``[B, C, H, W]``.
            sparsity: One value for each block.
            selectors: Of the sites.
            observe: Told of every block from the first site on.

        Returns:
            ``[B, C, H, W]``, channels-last in memory.
        """
        x = x.permute(0, 2, 3, 1).contiguous()
        hw_shape = tuple(x.shape[1:3])
        choice: PathChoice | None = None
        idle: list[BaseModule | None] = []
        for i, (block, value) in enumerate(zip(self.blocks, sparsity)):
            choice = selectors.follow(i, choice, x.flatten(1, 2), hw_shape, value, observe)
            if choice is None:
                x = block(x)
                idle += [selectors.at(i), getattr(block, 'fast', None)]
            else:
                x = block(x, choice)
        x = keep_in_graph(x, *(module for module in idle if module is not None))
        return x.permute(0, 3, 1, 2)
