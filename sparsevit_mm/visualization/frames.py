"""Frames of a video: what was computed beside what is predicted, all of one size, with a caption."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .inputs import UnreadableImage
from .inspection import Inspection, Inspector
from .overlays import blocks_of, heat_scale, paint_heat, paint_site
from .predictions import class_colours
from .video import VideoFile

__all__ = ['HEAT', 'FrameMaker', 'letterbox', 'make_video']

HEAT = 'heat'
_PANEL = 640  # pixels of the longer side of a panel
_NARROWEST, _LOWEST = 320, 120  # a caption needs room
_GAP, _LINE, _PAD = 8, 22, 6
_TEXT, _SMALL = 14, 12
_BACKGROUND, _INK = (24, 24, 24), (235, 235, 235)


class FrameMaker:
    """Makes the frames of one video. The first image decides their size, and others are letterboxed.

    Args:
        overlay: ``'heat'`` for how many blocks computed each place, or the name of a site for what it kept.
        meta: Names and colours of the classes, for those in a frame.

    Attributes:
        size: Width and height of the frames, ``None`` before the first.
    """

    def __init__(self, overlay: str = HEAT, meta: Mapping | None = None) -> None:
        self.overlay, self.meta = overlay, meta or {}
        self.size: tuple[int, int] | None = None
        self._panel = (0, 0)

    def __call__(self, seen: Inspection) -> np.ndarray:
        """The frame of an image, uint8 RGB.

        Raises:
            ValueError: If the backbone has no site of the overlay's name.
        """
        left = self._paint_overlay(seen)
        if self.size is None:
            self._fix_size(*seen.prediction.shape[1::-1])
        canvas = Image.new('RGB', self.size, _BACKGROUND)
        canvas.paste(letterbox(left, self._panel), (0, 0))
        canvas.paste(letterbox(seen.prediction, self._panel), (self._panel[0] + _GAP, 0))
        self._write(ImageDraw.Draw(canvas), seen)
        return np.asarray(canvas)

    def _paint_overlay(self, seen: Inspection) -> np.ndarray:
        if self.overlay == HEAT:
            return paint_heat(seen.item.picture, seen.maps)
        for site_map in seen.maps:
            if site_map.site == self.overlay:
                return paint_site(seen.item.picture, site_map)
        sites = ', '.join(site_map.site for site_map in seen.maps)
        raise ValueError(f'overlay {self.overlay!r} is neither {HEAT!r} nor a site of the backbone: {sites}.')

    def _fix_size(self, width: int, height: int) -> None:
        scale = _PANEL / max(width, height)
        least = _NARROWEST, _LOWEST
        # Codecs want even numbers.
        self._panel = tuple(max(low, 2 * round(side * scale / 2)) for low, side in zip(least, (width, height)))
        self.size = 2 * self._panel[0] + _GAP, self._panel[1] + 2 * _LINE + 2 * _PAD

    def _write(self, draw: ImageDraw.ImageDraw, seen: Inspection) -> None:
        right = self._panel[0] + _GAP
        top = self._panel[1] + _PAD
        share = f'{seen.kept_share:.0%} computed   {seen.macs_share:.0%} of the MACs'
        room = self._panel[0] - _PAD
        draw.text((_PAD, top), _shortened(seen.item.path.name, room, _TEXT), font=_font(_TEXT), fill=_INK)
        draw.text((right, top), share, font=_font(_TEXT), fill=_INK)
        if self.overlay == HEAT:
            self._add_scale(draw, top + _LINE, blocks_of(seen.maps))
        else:
            site = next(site_map for site_map in seen.maps if site_map.site == self.overlay)
            lines = '' if site.packed is None else ', orange lines: in a package'
            text = f'{site.title}   dark: skipped{lines}'
            draw.text((_PAD, top + _LINE), _shortened(text, room, _SMALL), font=_font(_SMALL), fill=_INK)
        self._add_classes(draw, right, top + _LINE, seen)

    def _add_scale(self, draw: ImageDraw.ImageDraw, top: int, blocks: int) -> None:
        x, scale, step = _PAD, heat_scale(blocks), max(3, min(16, 200 // (blocks + 1)))
        for text in ('blocks that computed it:  0', None, str(blocks)):
            if text is not None:
                draw.text((x, top), text, font=_font(_SMALL), fill=_INK)
                x += round(draw.textlength(text, font=_font(_SMALL))) + _PAD
                continue
            for count in range(blocks + 1):
                colour = tuple(int(part) for part in scale.to_rgba(count, bytes=True)[:3])
                draw.rectangle((x, top + 2, x + step - 1, top + _SMALL + 1), fill=colour)
                x += step
            x += _PAD

    def _add_classes(self, draw: ImageDraw.ImageDraw, x: int, top: int, seen: Inspection) -> None:
        for name, colour in class_colours(seen.classes, self.meta).items():
            width = _SMALL + _PAD + round(draw.textlength(name, font=_font(_SMALL))) + 2 * _PAD
            if x + width > self.size[0]:
                break
            draw.rectangle((x, top + 1, x + _SMALL, top + 1 + _SMALL), fill=colour, outline=_INK)
            draw.text((x + _SMALL + _PAD, top), name, font=_font(_SMALL), fill=_INK)
            x += width


def make_video(
    inspector: Inspector,
    images: Iterable[Path],
    video: VideoFile,
    overlay: str = HEAT,
    skipped: Callable[[UnreadableImage], None] = lambda error: None,
) -> None:
    """Runs a model on images, and adds a frame for each to a video.

    Args:
        inspector: Runs the model.
        images: The files, in the order of the frames.
        video: Where they go.
        overlay: See :class:`FrameMaker`.
        skipped: Told of a file that is no image, which is left out.

    Raises:
        ValueError: If none of the files is an image, or the overlay, the predictions or the video cannot be had.
    """
    draw, count = FrameMaker(overlay), 0
    for path in images:
        count += 1
        try:
            seen = inspector(path)
        except UnreadableImage as error:
            skipped(error)
            continue
        draw.meta = inspector.painter.meta
        video.write(draw(seen))
    if not video.frames:
        raise ValueError(f'there is nothing to make a video of: none of {count} file(s) is an image.')


def letterbox(picture: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A picture as large as it fits into a width and a height, in the middle, with bars beside it."""
    image = Image.fromarray(picture)
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    box = Image.new('RGB', size, _BACKGROUND)
    resample = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
    box.paste(image.resize(inner, resample), ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return box


def _shortened(text: str, room: float, size: int) -> str:
    """The text, with dots in the middle if it is too long."""
    font = _font(size)
    if font.getlength(text) <= room:
        return text
    for length in range(len(text) - 1, 1, -1):
        short = f'{text[: length // 2]}…{text[len(text) - length // 2 :]}'
        if font.getlength(short) <= room:
            return short
    return '…'


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The typeface that matplotlib brings."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')), size)
