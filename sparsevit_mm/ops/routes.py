"""Routes: which rows of a flattened token map a window block reads and writes.

A map of a batch is a matrix of rows ``[B * L, C]``. Where windows hold padding it has one row more, the
*spill row*: padding is read from it and written to it, so that every window has its full ``N`` rows. What stands
in the spill row is never read as a value: after the first norm padding is set to zero, as in stock Swin.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .windows import WindowGrid

__all__ = [
    'WindowRoute',
    'add_spill_row',
    'build_ragged_route',
    'build_route',
    'drop_spill_row',
    'images_of_windows',
    'write_rows',
]


@dataclass(frozen=True, eq=False)
class WindowRoute:
    """Rows of the kept windows of a batch.

    Where images keep different numbers of windows, ``B * K`` stands for all of them together and ``B * V`` for their
    real tokens.

    Args:
        batch: Images ``B``; 1 where they keep different numbers, since rows then do not split into equal parts.
        images: ``[B * K]`` the image of each window.
        rows: ``[B * K * N]`` rows to read, window by window.
        padding: ``[B * K * N, 1]`` true where a row is padding; ``None`` where no window holds any.
        kinds: ``[B * K]`` attention mask of each window, ``None`` without shift.
        real: ``[B * V]`` which of the rows read are real tokens; ``None`` where all are, and in a route that is only
            to be split. Where an image has fewer than ``V``, some of its padding fills the rest.
        parts: What :meth:`split` gave last, by the number of windows.
    """

    batch: int
    images: Tensor
    rows: Tensor
    padding: Tensor | None
    kinds: Tensor | None
    real: Tensor | None
    parts: dict[int, list['WindowRoute']] = field(default_factory=dict, repr=False)

    @property
    def places(self) -> Tensor:
        """Rows to write, ``[B * K * N]``, or ``[B * V]`` where there is padding."""
        return self.rows if self.real is None else self.rows.index_select(0, self.real)

    def split(self, windows: int) -> list['WindowRoute']:
        """The route in parts of so many windows, for inference that is not traced.

        A part has exactly its real tokens as places, so it does not need the spill row: padding is read from row 0.
        They are remembered, since blocks share a route, and dense ones live as long as the size of the map.
        """
        if windows not in self.parts:
            self.parts.clear()
            self.parts[windows] = list(self._split(windows))
        return self.parts[windows]

    def _split(self, windows: int) -> Iterator['WindowRoute']:
        tokens = len(self.rows) // max(1, len(self.images))
        for start in range(0, len(self.images), windows):
            some = slice(start, start + windows)
            places = slice(start * tokens, (start + windows) * tokens)
            rows, padding, real = self.rows[places], None, None
            if self.padding is not None and self.padding[places].any():
                padding = self.padding[places]
                hidden = padding.squeeze(1)
                rows, real = rows.masked_fill(hidden, 0), (~hidden).nonzero().squeeze(1)
            kinds = None if self.kinds is None else self.kinds[some]
            yield WindowRoute(1, self.images[some], rows, padding, kinds, real)


def add_spill_row(tokens: Tensor) -> Tensor:
    """``[B, L, C] -> [B * L + 1, C]``, a row of zeros below."""
    return torch.nn.functional.pad(tokens.flatten(0, 1), (0, 0, 0, 1))


def drop_spill_row(rows: Tensor, batch: int) -> Tensor:
    """The inverse of :func:`add_spill_row`: ``[B * L + 1, C] -> [B, L, C]``, a view."""
    return rows[:-1].view(batch, -1, rows.shape[-1])


def images_of_windows(batch: int, num_kept: int, device: torch.device | str) -> Tensor:
    """The image of each window where every image keeps as many, ``[B * K]``."""
    return torch.arange(batch, device=device)[:, None].expand(-1, num_kept).flatten()


def build_route(
    grid: WindowGrid, batch: int, kept: Tensor | None = None, images: Tensor | None = None, whole: bool = True
) -> WindowRoute:
    """The rows of some windows of each image.

    Args:
        grid: Windows of the map.
        batch: Images.
        kept: ``[B, K]`` indices of the windows; ``None`` for all.
        images: What :func:`images_of_windows` gives, where it is at hand.
        whole: Whether it is to be run at once. One that is only to be split is told which rows are real by its parts.
    """
    if kept is None:
        kept = torch.arange(grid.num_windows, device=grid.rows.device).expand(batch, -1)
    num_kept = kept.shape[1]
    images = images_of_windows(batch, num_kept, kept.device) if images is None else images
    rows, padding, kinds = _rows_of(grid, batch, images, kept.flatten())
    real = None
    if padding is not None and whole:
        real = _real_places(padding.view(batch, -1), grid.most_tokens(num_kept))
    return WindowRoute(batch, images, rows, padding, kinds, real)


def build_ragged_route(grid: WindowGrid, mask: Tensor, whole: bool = True) -> WindowRoute:
    """The rows of the windows for which ``mask [B, nW]`` is true, in any number for each image.

    ``whole`` is as for :func:`build_route`.
    """
    images, windows = mask.nonzero(as_tuple=True)
    rows, padding, kinds = _rows_of(grid, mask.shape[0], images, windows)
    real = (~padding.squeeze(1)).nonzero().squeeze(1) if padding is not None and whole else None
    return WindowRoute(1, images, rows, padding, kinds, real)


def _rows_of(
    grid: WindowGrid, batch: int, images: Tensor, windows: Tensor
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Rows, padding and kinds of a route of ``M`` windows, given as ``[M]`` images and ``[M]`` windows."""
    places = grid.rows.index_select(0, windows)  # [M, N]
    kinds = None if grid.masks is None else grid.kinds.index_select(0, windows)
    rows = places if batch == 1 else places + images[:, None] * grid.length
    if not grid.padded:
        return rows.flatten(), None, kinds
    padding = places == grid.length
    return torch.where(padding, batch * grid.length, rows).flatten(), padding.view(-1, 1), kinds


def _real_places(padding: Tensor, count: int) -> Tensor:
    """Places of the real tokens of each image, in a number that does not depend on the data.

    Args:
        padding: ``[B, M]`` true where a row is padding.
        count: Places to return for each image ``V``, at least as many as there are real tokens.

    Returns:
        ``[B * V]`` places in the flattened ``[B * M]``: the real ones first, then padding.
    """
    batch, total = padding.shape
    # Where a stable sort would put each row, without sorting: real rows keep the order of the windows.
    padding_before = padding.cumsum(1)
    places = torch.arange(total, device=padding.device)
    real_before = places + 1 - padding_before
    sorted_to = torch.where(padding, real_before[:, -1:] + padding_before, real_before) - 1
    order = torch.empty_like(sorted_to).scatter(1, sorted_to, places.expand(batch, -1))[:, :count]
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
