"""Overlays of what was computed, as RGB arrays that any visualizer backend takes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.patches import Patch
from PIL import Image

from ..models import SiteRecord
from .overlays import blocks_of, heat_scale, heat_ticks, paint_heat, paint_site, site_legend
from .site_map import SiteMap, site_maps

__all__ = ['SelectionPictures', 'draw_heat_map', 'draw_overview', 'draw_selection', 'draw_site', 'render']

DPI = 120
_PANEL_INCHES = 4.2  # the longer side of a panel in the overview
_TITLE_INCHES = 3.0  # the least width that holds a panel's title
_LEGEND_COLUMNS = 6


@dataclass(frozen=True)
class SelectionPictures:
    """The pictures of one image, uint8 RGB.

    Args:
        sites: One picture a site.
        heat_map: How many blocks computed each place, over all sites.
        overview: The image, the heat map and all sites on one sheet.
    """

    sites: dict[str, np.ndarray]
    heat_map: np.ndarray
    overview: np.ndarray

    def save(self, folder: Path) -> list[Path]:
        """Write ``overview.png``, ``heat_map.png`` and a PNG file a site into a folder, made if it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        pictures = {'overview': self.overview, 'heat_map': self.heat_map, **self.sites}
        files = [folder / f'{name}.png' for name in pictures]
        for file, picture in zip(files, pictures.values()):
            imsave(file, picture)
        return files


def draw_selection(
    image: np.ndarray,
    records: Sequence[SiteRecord],
    *,
    input_size: tuple[int, int] | None = None,
    index: int = 0,
    sparsity: Mapping[str, float] | None = None,
    title: str = '',
) -> SelectionPictures:
    """Draw what a backbone computed of an image, a site each and all together.

    Args:
        image: The image at the size the network saw it, uint8 RGB of shape (h, w, 3), without padding.
        records: What ``backbone.record_selections()`` gave for one forward pass.
        input_size: Height and width of the network's input with its padding at the right and the bottom;
            the image's own if it has none.
        index: Which image of the batch.
        sparsity: Site names to the sparsity set, for the titles.
        title: Heading of the overview.

    Raises:
        ValueError: If the image is not uint8 RGB, nothing was recorded, or the index is not in the batch.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f'image must be uint8 RGB of shape (h, w, 3), got {image.dtype} of shape {image.shape}.')
    maps = site_maps(records, image.shape[:2], input_size=input_size, index=index, sparsity=sparsity)
    return SelectionPictures(
        sites={site_map.site: draw_site(image, site_map) for site_map in maps},
        heat_map=draw_heat_map(image, maps),
        overview=draw_overview(image, maps, title),
    )


def draw_site(image: np.ndarray, site_map: SiteMap) -> np.ndarray:
    """One site: what its blocks computed keeps its colours, the rest is darkened."""
    figure, axes = _single(image)
    _show(axes, paint_site(image, site_map), site_map.title)
    _add_legend(figure, site_legend([site_map]))
    return render(figure)


def draw_heat_map(image: np.ndarray, maps: Sequence[SiteMap]) -> np.ndarray:
    """All sites: the number of blocks that computed each place.

    Blocks count alike. That is close to their work: a Swin stage has a quarter of the tokens of the one
    before at twice the channels.
    """
    figure, axes = _single(image)
    _add_colour_bar(figure, [axes], _heat_panel(axes, image, maps), maps)
    return render(figure)


def draw_overview(
    image: np.ndarray,
    maps: Sequence[SiteMap],
    title: str = '',
    panels: Mapping[str, np.ndarray] | None = None,
    classes: Mapping[str, tuple[int, int, int]] | None = None,
) -> np.ndarray:
    """The image, the heat map and every site on one sheet.

    Args:
        image: The image at the size the network saw it, uint8 RGB.
        maps: What was computed of it; none leave the image and the panels given.
        title: Heading of the sheet.
        panels: Titles to further pictures of the image, behind it: its labels, its prediction.
        classes: Names to the colours that stand for them in these, for the legend.
    """
    height, width = image.shape[:2]
    pictures = {'what the network sees': image, **(panels or {})}
    count = len(pictures) + (len(maps) + 1 if maps else 0)
    columns = _columns(count, width / height)
    rows = math.ceil(count / columns)
    scale = _PANEL_INCHES / max(height, width)
    panel_width = max(width * scale, _TITLE_INCHES)
    figure = _figure(columns * (panel_width + 0.15) + 0.8, rows * (height * scale + 0.35) + 0.7)
    axes = np.ravel(figure.subplots(rows, columns))
    for panel, (name, picture) in zip(axes, pictures.items()):
        _show(panel, picture, name)
    rest = axes[len(pictures) :]
    if maps:
        _add_colour_bar(figure, list(axes), _heat_panel(rest[0], image, maps), maps)
    for panel, site_map in zip(rest[1:], maps):
        _show(panel, paint_site(image, site_map), site_map.title)
    for panel in axes[count:]:
        panel.set_axis_off()
    swatches = [
        Patch(facecolor=np.divide(colour, 255), edgecolor='0.5', linewidth=0.6, label=name)
        for name, colour in (classes or {}).items()
    ]
    _add_legend(figure, (site_legend(maps) if maps else []) + swatches)
    if title:
        figure.suptitle(title)
    return render(figure)


def render(figure: Figure, crop: bool = True) -> np.ndarray:
    """A figure as uint8 RGB, cropped to what is drawn: with all of its text whatever the shape of its panels."""
    buffer = BytesIO()
    box = dict(bbox_inches='tight') if crop else {}
    figure.savefig(buffer, format='png', pil_kwargs=dict(compress_level=1), **box)
    return np.asarray(Image.open(buffer).convert('RGB'))


def _heat_panel(axes: Axes, image: np.ndarray, maps: Sequence[SiteMap]) -> ScalarMappable:
    """Draw the panel and return what its colour bar needs."""
    blocks = blocks_of(maps)
    _show(axes, paint_heat(image, maps), f'all sites: how many of {blocks} blocks computed it')
    return heat_scale(blocks)


def _add_legend(figure: Figure, entries: Sequence[Patch]) -> None:
    if entries:
        columns = min(len(entries), _LEGEND_COLUMNS)
        figure.legend(handles=entries, loc='outside lower center', ncols=columns, frameon=False, fontsize=9)


def _add_colour_bar(figure: Figure, axes: list[Axes], mappable: ScalarMappable, maps: Sequence[SiteMap]) -> None:
    ticks = heat_ticks(blocks_of(maps))
    bar = figure.colorbar(mappable, ax=axes, ticks=ticks, label='blocks that computed it', shrink=0.8, pad=0.02)
    bar.minorticks_off()


def _single(image: np.ndarray) -> tuple[Figure, Axes]:
    """A figure for one panel, at the image's own resolution where that leaves room for the text."""
    height, width = image.shape[:2]
    scale = max(1 / DPI, 5 / max(height, width))
    figure = _figure(max(width * scale, 5) + 0.2, height * scale + 0.8)
    return figure, figure.subplots()


def _show(axes: Axes, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture)
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)


def _columns(panels: int, aspect: float) -> int:
    """The number of columns that brings the sheet closest to 16:10 with the fewest empty places."""
    return min(
        range(1, panels + 1),
        key=lambda n: abs(math.log(n * aspect / math.ceil(panels / n) / 1.6)) + 0.4 * (-panels % n),
    )


def _figure(width: float, height: float) -> Figure:
    """A figure of this size in inches that belongs to no global state of matplotlib."""
    return Figure(figsize=(width, max(height, 2.5)), dpi=DPI, layout='constrained')
