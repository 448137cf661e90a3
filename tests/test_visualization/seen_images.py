"""Inspections without a model, for the tests of what is drawn of them."""

from pathlib import Path

import numpy as np
import torch

from sparsevit_mm.visualization import Inspection, MapChange, NetworkInput, SiteMap

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 60), (30, 60, 220)


def plain(colour: tuple[int, int, int], height: int = 60, width: int = 90) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def seen_image(name: str = 'street.png', height: int = 60, width: int = 90, change=None, **fields) -> Inspection:
    """A red image; green prediction, blue dense prediction; the left half was computed by both blocks."""
    counts = np.zeros((height, width), int)
    counts[:, : width // 2] = 2
    image = plain(RED, height, width)
    defaults = dict(
        item=NetworkInput(Path(name), image, torch.zeros(1, 3, height, width), image, {}),
        maps=(SiteMap('stage1.pair1', 2, counts, 'windows', 4, 2, 0.5),),
        canvas=image,
        prediction=plain(GREEN, height, width),
        macs_share=0.62,
        classes=(np.zeros((height, width), int),),
        dense_prediction=plain(BLUE, height, width),
        change=change or MapChange(np.zeros((height, width), bool)),
    )
    return Inspection(**(defaults | fields))


def area(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture.astype(int) - colour) < 12).all(-1).sum())
