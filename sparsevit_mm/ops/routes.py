"""Routes: which rows of a flattened token map a window block reads and writes.

A map of a batch is a matrix of rows ``[B * L, C]``. Where windows hold padding it has one row more, the
*spill row*: padding is read from it and written to it, so that every window has its full ``N`` rows. What stands
in the spill row is never read as a value: after the first norm padding is set to zero, as in stock Swin.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .windows import WindowGrid

__all__ = ['WindowRoute', 'add_spill_row', 'build_route', 'drop_spill_row', 'write_rows']


@dataclass(frozen=True, eq=False)
class WindowRoute:
    """Rows of the kept windows of a batch.

    Args:
        batch: Images ``B``.
        num_kept: Kept windows of each image ``K``.
        rows: ``[B * K * N]`` rows to read, window by window.
        padding: ``[B * K * N, 1]`` true where a row is padding; ``None`` where no window holds any.
        kinds: ``[B * K]`` attention mask of each window, ``None`` without shift.
        real: ``[B * V]`` which of the rows read are real tokens; ``None`` where all are. Where an image has fewer
            than ``V``, some of its padding fills the rest.
    """

    batch: int
    num_kept: int
    rows: Tensor
    padding: Tensor | None
    kinds: Tensor | None
    real: Tensor | None

    @property
    def places(self) -> Tensor:
        """Rows to write, ``[B * K * N]``, or ``[B * V]`` where there is padding."""
        return self.rows if self.real is None else self.rows.index_select(0, self.real)


def add_spill_row(tokens: Tensor) -> Tensor:
    """``[B, L, C] -> [B * L + 1, C]``, a row of zeros below."""
    return torch.nn.functional.pad(tokens.flatten(0, 1), (0, 0, 0, 1))


def drop_spill_row(rows: Tensor, batch: int) -> Tensor:
    """The inverse of :func:`add_spill_row`: ``[B * L + 1, C] -> [B, L, C]``, a view."""
    return rows[:-1].view(batch, -1, rows.shape[-1])


def build_route(grid: WindowGrid, batch: int, kept: Tensor | None = None) -> WindowRoute:
    """The rows of some windows of each image.

    Args:
        grid: Windows of the map.
        batch: Images.
        kept: ``[B, K]`` indices of the windows; ``None`` for all.
    """
    windows = grid.rows.expand(batch, -1, -1) if kept is None else grid.rows[kept]  # [B, K, N]
    num_kept = windows.shape[1]
    offset = torch.arange(batch, device=windows.device).view(batch, 1, 1) * grid.length
    kinds = None
    if grid.masks is not None:
        kinds = (grid.kinds.repeat(batch) if kept is None else grid.kinds[kept]).flatten()
    if not grid.padded:
        return WindowRoute(batch, num_kept, (windows + offset).flatten(), None, kinds, None)
    padding = windows == grid.length
    rows = torch.where(padding, batch * grid.length, windows + offset)
    real = _real_places(padding.flatten(1), grid.most_tokens(num_kept))
    return WindowRoute(batch, num_kept, rows.flatten(), padding.view(-1, 1), kinds, real)


def _real_places(padding: Tensor, count: int) -> Tensor:
    """Places of the real tokens of each image, in a number that does not depend on the data.

    Args:
        padding: ``[B, M]`` true where a row is padding.
        count: Places to return for each image ``V``, at least as many as there are real tokens.

    Returns:
        ``[B * V]`` places in the flattened ``[B * M]``: the real ones first, then padding.
    """
    batch, total = padding.shape
    # Stable, so that real rows keep the order of the windows.
    order = padding.to(torch.uint8).argsort(dim=1, stable=True)[:, :count]
    return (order + torch.arange(batch, device=order.device)[:, None] * total).flatten()


def write_rows(rows: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Puts ``values [M, C]`` at the rows ``index [M]`` of ``rows [R, C]`` and returns it.

    In place: the rest of the map is not copied. Exporters get the functional form, since writes through
    views can be lost there without an error.
    """
    values = values.to(rows.dtype)
    if torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():
        return rows.index_copy(0, index, values)
    return rows.index_copy_(0, index, values)
