from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...ops import WindowGrid, kept_indices
from .base import SiteRecord, SparseBackbone

__all__ = ['StageLog']


@dataclass(frozen=True, eq=False)
class StageLog:
    """Keeps what a stage tells, on its backbone.

    Args:
        backbone: Where records and keep ratios are kept.
        sites: The site of each block of the stage, as a name; ``None`` before the first one.
    """

    backbone: SparseBackbone
    sites: Sequence[str | None]

    def computed(
        self, block: int, grid: WindowGrid, kept: Tensor | None, batch: int, members: Tensor | None = None
    ) -> None:
        """A block computes windows ``[B, K]``, those for which a mask ``[B, nW]`` is true, or all."""
        size = (grid.height, grid.width)
        self._record(block, grid.shift, size, grid.window, grid.num_windows, kept, batch, members)

    def split(
        self, block: int, hw_shape: tuple[int, int], kept: Tensor | None, batch: int, members: Tensor | None = None
    ) -> None:
        """A block computes tokens ``[B, K]``, those for which a mask ``[B, L]`` is true, or all, in full."""
        self._record(block, 0, tuple(hw_shape), 1, hw_shape[0] * hw_shape[1], kept, batch, members)

    def wanted(self, block: int, ratio: Tensor) -> None:
        """A learning selector would keep this fraction ``[B]``."""
        self.backbone.keep_ratios.setdefault(self.sites[block], ratio)

    def counted(self, block: int, counts: Tensor) -> None:
        """A site keeps as many units ``[B]`` of each image."""
        self.backbone.kept_counts.setdefault(self.sites[block], counts)

    def _record(
        self,
        block: int,
        shift: int,
        grid: tuple[int, int],
        window: int,
        units: int,
        kept: Tensor | None,
        batch: int,
        members: Tensor | None,
    ) -> None:
        if self.backbone._records is None:
            return
        if kept is None:
            device = next(self.backbone.parameters()).device
            kept = torch.arange(units, device=device).expand(batch, -1)
        elif kept.dtype == torch.bool:
            kept = kept_indices(kept)
        self.backbone._records.append(
            SiteRecord(
                site=self.sites[block],
                block=block,
                shift=shift,
                grid=grid,
                window=window,
                kept=kept,
                num_units=units,
                packed=None if members is None else (members.detach().sum(1) > 0).unflatten(1, grid),
            )
        )
