"""One sheet for several images: what was computed, what is predicted with and without it, and what changes."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .draw import DPI, render
from .draw_change import change_legend, draw_change
from .inspection import Inspection, Inspector
from .overlays import blocks_of, heat_scale, heat_ticks, paint_heat
from .predictions import class_colours, fit_image

__all__ = ['MOST_ROWS', 'SheetRow', 'check_rows', 'draw_contact_sheet', 'make_contact_sheet']

MOST_ROWS = 100
_TITLES = ('image', 'blocks that computed it', 'dense prediction', 'sparse prediction', 'what changes')
_SHOWN = 480  # pixels of the longer side that are kept of an image

# All in inches.
_PANEL, _GAP, _MARGIN = 2.5, 0.07, 0.12
_CAPTION, _COLUMN_TITLE, _HEADING_LINE, _LEGEND_LINE = 0.24, 0.25, 0.22, 0.21
_BAR = (2.2, 0.12)
_LINE_LENGTH = 170  # characters of the heading
_LETTER, _HANDLE = 0.072, 0.5  # about, of an entry of the legend
_LABEL_LENGTH = 40  # characters of a class or a file


@dataclass(frozen=True)
class SheetRow:
    """What one image adds to a sheet.

    Args:
        pictures: An RGB picture a column.
        captions: What is written below each.
        blocks: Blocks of the backbone's sites.
        macs_share: MACs of the backbone relative to dense.
        legend: What the marks of the last picture mean.
    """

    pictures: tuple[np.ndarray, ...]
    captions: tuple[str, ...]
    blocks: int
    macs_share: float
    legend: tuple[Patch | Line2D, ...]

    @classmethod
    def of(cls, seen: Inspection) -> 'SheetRow':
        """The row of one image, which was predicted at sparsity 0 too. It is much smaller than what it is made of."""
        image, _ = fit_image(seen.canvas, _SHOWN)
        heat, _ = fit_image(paint_heat(seen.item.picture, seen.maps), _SHOWN)
        change = draw_change(seen.canvas, seen.change, _SHOWN)
        computed = f'{seen.kept_share:.0%} computed, {seen.macs_share:.0%} of the MACs'
        return cls(
            pictures=(image, heat, seen.dense_prediction, seen.prediction, change),
            captions=(_short(seen.item.path.name), computed, '', '', seen.change.caption),
            blocks=blocks_of(seen.maps),
            macs_share=seen.macs_share,
            legend=tuple(change_legend(seen.change)),
        )


def check_rows(count: int) -> None:
    """Looks at the number of images before anything is computed for them.

    Raises:
        ValueError: If there are too many or none.
    """
    if not 1 <= count <= MOST_ROWS:
        raise ValueError(
            f'a contact sheet takes 1 to {MOST_ROWS} images, got {count}: choose some, or make a video of them.'
        )


def make_contact_sheet(inspector: Inspector, images: Iterable[Path], name: str) -> np.ndarray:
    """Runs a model on images, dense and sparse, and draws the sheet.

    Args:
        inspector: Runs the model.
        images: The files, in the order of the rows.
        name: What the model is called in the heading.

    Raises:
        ValueError: If a file is no image, there are too many or none, or predictions cannot be drawn.
    """
    rows, classes = [], []
    for path in images:
        seen = inspector(path, compare=True)
        rows.append(SheetRow.of(seen))
        classes += [values[::4, ::4] for values in seen.classes]  # enough to tell which there are
    check_rows(len(rows))
    share = sum(row.macs_share for row in rows) / len(rows)
    heading = f"{name}: {share:.0%} of the dense backbone's MACs\n{inspector.describe()}"
    return draw_contact_sheet(rows, heading, class_colours(classes, inspector.painter.meta))


def draw_contact_sheet(
    rows: Sequence[SheetRow], heading: str, classes: dict[str, tuple[int, int, int]] | None = None
) -> np.ndarray:
    """The sheet as uint8 RGB.

    Args:
        rows: At least one, and no more than ``MOST_ROWS``.
        heading: What stands above; long lines are broken.
        classes: Names to the colours that stand for them in predictions.

    Raises:
        ValueError: If there are too many rows or none.
    """
    check_rows(len(rows))
    lines = [piece for line in heading.splitlines() for piece in textwrap.wrap(line, _LINE_LENGTH)]
    swatches = [
        Patch(facecolor=np.divide(colour, 255), edgecolor='0.5', linewidth=0.6, label=_short(name))
        for name, colour in (classes or {}).items()
    ]
    entries = [*rows[0].legend, *swatches]
    heights = [_PANEL * row.pictures[0].shape[0] / row.pictures[0].shape[1] for row in rows]
    width = 2 * _MARGIN + len(_TITLES) * _PANEL + (len(_TITLES) - 1) * _GAP
    room = width - _left(2) - _MARGIN
    longest = max(len(entry.get_label()) for entry in entries)
    columns = max(1, min(len(entries), int(room / (_HANDLE + _LETTER * longest))))
    legend = max(-(-len(entries) // columns) * _LEGEND_LINE + 0.1, 0.5)
    top = _MARGIN + len(lines) * _HEADING_LINE + _COLUMN_TITLE
    height = top + sum(heights) + len(rows) * _CAPTION + legend + _MARGIN
    page = _Page(width, height)
    for number, line in enumerate(lines):
        page.write(_MARGIN, _MARGIN + number * _HEADING_LINE, line, size=11 if number == 0 else 9, va='top')
    for column, title in enumerate(_TITLES):
        page.write(_left(column) + _PANEL / 2, top - 0.07, title, size=10, ha='center')
    for row, panel in zip(rows, heights):
        for column, (picture, caption) in enumerate(zip(row.pictures, row.captions)):
            page.show(_left(column), top, _PANEL, panel, picture)
            page.write(_left(column) + _PANEL / 2, top + panel + 0.04, caption, size=8, ha='center', va='top')
        top += panel + _CAPTION
    page.add_scale(_left(1) + (_PANEL - _BAR[0]) / 2, top + 0.08, rows[0].blocks)
    page.add_legend(_left(2), top, room, legend, entries, columns)
    return render(page.figure, crop=False)


class _Page:
    """A figure that is filled from the top left, in inches."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor='white')

    def write(self, x: float, y: float, text: str, size: float, ha: str = 'left', va: str = 'bottom') -> None:
        self.figure.text(x / self.width, 1 - y / self.height, text, fontsize=size, ha=ha, va=va)

    def show(self, x: float, y: float, width: float, height: float, picture: np.ndarray) -> None:
        axes = self._axes(x, y, width, height)
        axes.imshow(picture, aspect='auto')
        axes.set_axis_off()

    def add_scale(self, x: float, y: float, blocks: int) -> None:
        bar = self.figure.colorbar(
            heat_scale(blocks), cax=self._axes(x, y, *_BAR), orientation='horizontal', ticks=heat_ticks(blocks)
        )
        bar.minorticks_off()
        bar.ax.tick_params(labelsize=7, length=2, pad=2)

    def add_legend(
        self, x: float, y: float, width: float, height: float, entries: Sequence[Patch | Line2D], columns: int
    ) -> None:
        axes = self._axes(x, y, width, height)
        axes.set_axis_off()
        axes.legend(handles=list(entries), loc='upper left', ncols=columns, frameon=False, fontsize=8, borderpad=0.2)

    def _axes(self, x: float, y: float, width: float, height: float):
        return self.figure.add_axes(
            (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        )


def _left(column: int) -> float:
    return _MARGIN + column * (_PANEL + _GAP)


def _short(name: str) -> str:
    return name if len(name) <= _LABEL_LENGTH else f'{name[: _LABEL_LENGTH - 1]}…'
