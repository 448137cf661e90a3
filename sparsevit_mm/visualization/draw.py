"""Overlays of what was computed, as RGB arrays that any visualizer backend takes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.patches import Patch
from PIL import Image

from ..models import SiteRecord
from .site_map import SiteMap, site_maps

__all__ = ['SelectionPictures', 'draw_heat_map', 'draw_overview', 'draw_selection', 'draw_site']

# Skipped, partly and fully computed differ in texture and lightness, not in hue alone: they read on dark and
# bright photographs, in grey and with any colour vision.
_SKIPPED, _HATCH = np.array([0x1B, 0x2A, 0x4E]), np.array([0x7C, 0x8D, 0xB5])  # night blue with paler diagonals
_PARTLY = np.array([0x56, 0xB4, 0xE9])  # the sky blue of Okabe and Ito
_PACKED = np.array([0xE6, 0x9F, 0x00])  # their orange, for the diagonals where what is skipped is in a package token
_SKIPPED_ALPHA, _HATCH_ALPHA, _PARTLY_ALPHA = 0.75, 0.55, 0.5
_HEAT, _HEAT_ALPHA = 'viridis', 0.65
_DPI = 120
_PANEL_INCHES = 4.2  # the longer side of a panel in the overview
_TITLE_INCHES = 3.0  # the least width that holds a panel's title


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
    _site_panel(axes, image, site_map)
    _add_legend(figure, [site_map])
    return _render(figure)


def draw_heat_map(image: np.ndarray, maps: Sequence[SiteMap]) -> np.ndarray:
    """All sites: the number of blocks that computed each place.

    Blocks count alike. That is close to their work: a Swin stage has a quarter of the tokens of the one
    before at twice the channels.
    """
    figure, axes = _single(image)
    _add_colour_bar(figure, [axes], _heat_panel(axes, image, maps), maps)
    return _render(figure)


def draw_overview(image: np.ndarray, maps: Sequence[SiteMap], title: str = '') -> np.ndarray:
    """The image, the heat map and every site on one sheet."""
    height, width = image.shape[:2]
    panels = len(maps) + 2
    columns = _columns(panels, width / height)
    rows = math.ceil(panels / columns)
    scale = _PANEL_INCHES / max(height, width)
    panel_width = max(width * scale, _TITLE_INCHES)
    figure = _figure(columns * (panel_width + 0.15) + 0.8, rows * (height * scale + 0.35) + 0.7)
    axes = np.ravel(figure.subplots(rows, columns))
    _show(axes[0], image, 'what the network sees')
    _add_colour_bar(figure, list(axes), _heat_panel(axes[1], image, maps), maps)
    for panel, site_map in zip(axes[2:], maps):
        _site_panel(panel, image, site_map)
    for panel in axes[panels:]:
        panel.set_axis_off()
    _add_legend(figure, maps)
    if title:
        figure.suptitle(title)
    return _render(figure)


def _site_panel(axes: Axes, image: np.ndarray, site_map: SiteMap) -> None:
    none, partly = site_map.counts == 0, (site_map.counts > 0) & (site_map.counts < site_map.blocks)
    grey = _grey(image)
    hatch = none & _diagonals(*none.shape)
    picture = image.astype(np.float64)
    picture[none] = (1 - _SKIPPED_ALPHA) * grey[none] + _SKIPPED_ALPHA * _SKIPPED
    picture[hatch] = (1 - _HATCH_ALPHA) * picture[hatch] + _HATCH_ALPHA * _HATCH
    if site_map.packed is not None:
        picture[hatch & site_map.packed] = _PACKED
    picture[partly] = (1 - _PARTLY_ALPHA) * grey[partly] + _PARTLY_ALPHA * _PARTLY
    _show(axes, picture.astype(np.uint8), site_map.title)


def _heat_panel(axes: Axes, image: np.ndarray, maps: Sequence[SiteMap]) -> ScalarMappable:
    """Draw the panel and return what its colour bar needs."""
    blocks = sum(site_map.blocks for site_map in maps)
    mappable = ScalarMappable(BoundaryNorm(np.arange(blocks + 2) - 0.5, 256), colormaps[_HEAT])
    colours = mappable.to_rgba(sum(site_map.counts for site_map in maps), bytes=True)[..., :3]
    picture = (1 - _HEAT_ALPHA) * _grey(image) + _HEAT_ALPHA * colours
    _show(axes, picture.astype(np.uint8), f'all sites: how many of {blocks} blocks computed it')
    return mappable


def _diagonals(height: int, width: int) -> np.ndarray:
    """Thin diagonal lines, about forty to the longer side."""
    period = max(6, round(max(height, width) / 40))
    return (np.arange(height)[:, None] + np.arange(width)) % period < max(1, period // 8)


def _add_legend(figure: Figure, maps: Sequence[SiteMap]) -> None:
    blend = (_PARTLY_ALPHA * _PARTLY + (1 - _PARTLY_ALPHA) * 128) / 255
    entries = [Patch(facecolor='white', edgecolor='black', label='computed (own colours)')]
    if any(site_map.blocks > 1 for site_map in maps):
        entries.append(Patch(facecolor=blend, edgecolor='black', label='by some of its blocks'))
    entries.append(Patch(facecolor=_SKIPPED / 255, edgecolor=_HATCH / 255, hatch='////', label='skipped'))
    if any(site_map.packed is not None and site_map.packed.any() for site_map in maps):
        entries.append(
            Patch(facecolor=_SKIPPED / 255, edgecolor=_PACKED / 255, hatch='////', label='skipped, in a package token')
        )
    figure.legend(handles=entries, loc='outside lower center', ncols=len(entries), frameon=False, fontsize=9)


def _add_colour_bar(figure: Figure, axes: list[Axes], mappable: ScalarMappable, maps: Sequence[SiteMap]) -> None:
    blocks = sum(site_map.blocks for site_map in maps)
    ticks = range(0, blocks + 1, max(1, math.ceil(blocks / 12)))
    bar = figure.colorbar(mappable, ax=axes, ticks=list(ticks), label='blocks that computed it', shrink=0.8, pad=0.02)
    bar.minorticks_off()


def _single(image: np.ndarray) -> tuple[Figure, Axes]:
    """A figure for one panel, at the image's own resolution where that leaves room for the text."""
    height, width = image.shape[:2]
    scale = max(1 / _DPI, 5 / max(height, width))
    figure = _figure(max(width * scale, 5) + 0.2, height * scale + 0.8)
    return figure, figure.subplots()


def _show(axes: Axes, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture)
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)


def _grey(image: np.ndarray) -> np.ndarray:
    """Luma as three equal channels."""
    return np.repeat((image @ [0.299, 0.587, 0.114])[..., None], 3, axis=2)


def _columns(panels: int, aspect: float) -> int:
    """The number of columns that brings the sheet closest to 16:10 with the fewest empty places."""
    return min(
        range(1, panels + 1),
        key=lambda n: abs(math.log(n * aspect / math.ceil(panels / n) / 1.6)) + 0.4 * (-panels % n),
    )


def _figure(width: float, height: float) -> Figure:
    """A figure of this size in inches that belongs to no global state of matplotlib."""
    return Figure(figsize=(width, max(height, 2.5)), dpi=_DPI, layout='constrained')


def _render(figure: Figure) -> np.ndarray:
    """The figure as uint8 RGB, with all of its text whatever the shape of its panels."""
    buffer = BytesIO()
    figure.savefig(buffer, format='png', bbox_inches='tight', pil_kwargs=dict(compress_level=1))
    return np.asarray(Image.open(buffer).convert('RGB'))
