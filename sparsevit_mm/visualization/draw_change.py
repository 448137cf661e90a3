"""Pictures of what changes between two predictions."""

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import Normal, Stroke

from .differences import MapChange, ObjectChange
from .draw import DPI, render
from .overlays import grey
from .predictions import fit_image
from .samples import Objects

__all__ = ['change_legend', 'draw_change']

# Colours of Okabe and Ito; what vanishes and what appears differ in their lines too.
_CHANGED, _ON_PAPER = '#D55E00', '0.6'  # white, of what is kept, is not seen on paper
_KEPT = dict(color='white', linestyle='-', linewidth=0.9)
_VANISHED = dict(color='#E69F00', linestyle=(0, (3, 1.5)), linewidth=1.8)
_APPEARED = dict(color='#56B4E9', linestyle='-', linewidth=1.8)
# Of centres, which have no lines.
_MARKERS = {_KEPT['color']: 'o', _VANISHED['color']: 'v', _APPEARED['color']: '^'}
_PALE = 0.65  # how much of the contrast of the image is left below the change


def draw_change(image: np.ndarray, change: MapChange | ObjectChange, longest: int = 480) -> np.ndarray:
    """The image in grey with what changes, uint8 RGB.

    Args:
        image: uint8 RGB of the size that the predictions speak of.
        change: What changes in it.
        longest: Longer side of the picture in pixels.
    """
    small, factor = fit_image(image, longest)
    pale = grey(small) * _PALE + 255 * (1 - _PALE) / 2
    if isinstance(change, MapChange):
        return _blend(pale, change.changed)
    return _outline(pale.astype(np.uint8), change, factor)


def change_legend(change: MapChange | ObjectChange) -> list[Patch | Line2D]:
    """What the colours and lines of :func:`draw_change` mean."""
    if isinstance(change, MapChange):
        return [Patch(color=_CHANGED, label='pixels that change class')]
    styles = {'in both predictions': _KEPT, 'vanishes: dense only': _VANISHED, 'appears: sparse only': _APPEARED}
    if change.before.centers is not None:
        return [Line2D([], [], label=label, **_mark(style, on_paper=True)) for label, style in styles.items()]
    styles['in both predictions'] = _KEPT | dict(color=_ON_PAPER)
    return [Line2D([], [], label=label, **style) for label, style in styles.items()]


def _blend(pale: np.ndarray, changed: np.ndarray) -> np.ndarray:
    height, width = pale.shape[:2]
    # Lines of a pixel must not be lost in a smaller picture.
    share = cv2.resize(changed.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    alpha = np.clip(2 * share, 0, 1)[..., None]
    colour = [int(_CHANGED[place : place + 2], 16) for place in (1, 3, 5)]
    return ((1 - alpha) * pale + alpha * np.array(colour)).astype(np.uint8)


def _outline(pale: np.ndarray, change: ObjectChange, factor: float) -> np.ndarray:
    height, width = pale.shape[:2]
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(pale, extent=(0, width / factor, height / factor, 0), aspect='auto')
    axes.set_axis_off()
    axes.autoscale(False)
    kept = [index for _, index in change.kept]
    for objects, indices, style in (
        (change.after, kept, _KEPT),
        (change.after, change.appeared, _APPEARED),
        (change.before, change.vanished, _VANISHED),
    ):
        for index in indices:
            _outline_object(axes, objects, index, style)
    return render(figure, crop=False)


def _mark(style: dict, on_paper: bool = False) -> dict:
    """A hollow mark in the colour of a line."""
    colour = _ON_PAPER if on_paper and style is _KEPT else style['color']
    edge = dict(markeredgecolor=colour, markeredgewidth=style['linewidth'], markerfacecolor='none')
    return dict(marker=_MARKERS[style['color']], markersize=9, linestyle='', **edge)


def _outline_object(axes: Axes, objects: Objects, index: int, style: dict) -> None:
    outline = [Stroke(linewidth=style['linewidth'] + 1.2, foreground='black', alpha=0.7), Normal()]
    if objects.centers is not None:
        x, y = objects.centers[index]
        axes.plot(x, y, path_effects=outline, **_mark(style))
        return
    if objects.masks is not None and (mask := objects.masks[index]).any():
        lines = dict(colors=style['color'], linestyles=[style['linestyle']], linewidths=style['linewidth'])
        contour = axes.contour(np.arange(mask.shape[1]) + 0.5, np.arange(mask.shape[0]) + 0.5, mask, [0.5], **lines)
        contour.set(path_effects=outline)
        return
    left, top, right, bottom = objects.boxes[index]
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, path_effects=outline, **style))
