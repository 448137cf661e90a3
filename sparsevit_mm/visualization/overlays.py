"""Pixels of the overlays: what a site skipped, and how often each place was computed."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.patches import Patch

from .site_map import SiteMap

__all__ = ['blocks_of', 'grey', 'heat_scale', 'heat_ticks', 'paint_heat', 'paint_site', 'site_legend']

# Skipped, partly and fully computed differ in texture and lightness, not in hue alone: they read on dark and
# bright photographs, in grey and with any colour vision.
_SKIPPED, _HATCH = np.array([0x1B, 0x2A, 0x4E]), np.array([0x7C, 0x8D, 0xB5])  # night blue with paler diagonals
_PARTLY = np.array([0x56, 0xB4, 0xE9])  # the sky blue of Okabe and Ito
_PACKED = np.array([0xE6, 0x9F, 0x00])  # their orange, for the diagonals where what is skipped is in a package token
_SKIPPED_ALPHA, _HATCH_ALPHA, _PARTLY_ALPHA = 0.75, 0.55, 0.5
_HEAT, _HEAT_ALPHA = 'viridis', 0.65


def paint_site(image: np.ndarray, site_map: SiteMap) -> np.ndarray:
    """What the blocks of a site computed keeps its colours, the rest is darkened; uint8 RGB like the image."""
    none, partly = site_map.counts == 0, (site_map.counts > 0) & (site_map.counts < site_map.blocks)
    pale = grey(image)
    hatch = none & _diagonals(*none.shape)
    picture = image.astype(np.float64)
    picture[none] = (1 - _SKIPPED_ALPHA) * pale[none] + _SKIPPED_ALPHA * _SKIPPED
    picture[hatch] = (1 - _HATCH_ALPHA) * picture[hatch] + _HATCH_ALPHA * _HATCH
    if site_map.packed is not None:
        picture[hatch & site_map.packed] = _PACKED
    picture[partly] = (1 - _PARTLY_ALPHA) * pale[partly] + _PARTLY_ALPHA * _PARTLY
    return picture.astype(np.uint8)


def paint_heat(image: np.ndarray, maps: Sequence[SiteMap]) -> np.ndarray:
    """How many blocks of all sites computed each place, as colours over the grey image; uint8 RGB like the image."""
    counts = sum(site_map.counts for site_map in maps)
    colours = heat_scale(blocks_of(maps)).to_rgba(counts, bytes=True)[..., :3]
    return ((1 - _HEAT_ALPHA) * grey(image) + _HEAT_ALPHA * colours).astype(np.uint8)


def heat_scale(blocks: int) -> ScalarMappable:
    """Numbers of blocks from 0 on to the colours that stand for them."""
    return ScalarMappable(BoundaryNorm(np.arange(blocks + 2) - 0.5, 256), colormaps[_HEAT])


def heat_ticks(blocks: int) -> list[int]:
    """At most about a dozen whole numbers from 0 to the number of blocks."""
    return list(range(0, blocks + 1, max(1, math.ceil(blocks / 12))))


def blocks_of(maps: Sequence[SiteMap]) -> int:
    """Blocks of all sites."""
    return sum(site_map.blocks for site_map in maps)


def site_legend(maps: Sequence[SiteMap]) -> list[Patch]:
    """What the colours of :func:`paint_site` mean, as far as they occur."""
    blend = (_PARTLY_ALPHA * _PARTLY + (1 - _PARTLY_ALPHA) * 128) / 255
    entries = [Patch(facecolor='white', edgecolor='black', label='computed (own colours)')]
    if any(site_map.blocks > 1 for site_map in maps):
        entries.append(Patch(facecolor=blend, edgecolor='black', label='by some of its blocks'))
    entries.append(Patch(facecolor=_SKIPPED / 255, edgecolor=_HATCH / 255, hatch='////', label='skipped'))
    if any(site_map.packed is not None and site_map.packed.any() for site_map in maps):
        entries.append(
            Patch(facecolor=_SKIPPED / 255, edgecolor=_PACKED / 255, hatch='////', label='skipped, in a package token')
        )
    return entries


def grey(image: np.ndarray) -> np.ndarray:
    """Luma as three equal channels, float."""
    return np.repeat((image @ [0.299, 0.587, 0.114])[..., None], 3, axis=2)


def _diagonals(height: int, width: int) -> np.ndarray:
    """Thin diagonal lines, about forty to the longer side."""
    period = max(6, round(max(height, width) / 40))
    return (np.arange(height)[:, None] + np.arange(width)) % period < max(1, period // 8)
