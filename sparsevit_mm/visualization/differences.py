"""What changes between two predictions of one image."""

from dataclasses import dataclass

import numpy as np
from mmengine.structures import BaseDataElement

from .samples import Objects, class_map, objects_of

__all__ = [
    'MapChange',
    'ObjectChange',
    'box_overlaps',
    'compare_maps',
    'compare_predictions',
    'mask_overlaps',
    'match_objects',
]

_SAME_CENTER = 0.02  # of the longer side of an image: how far the centre of a 3D box may move
_MASK_PIXELS = 250_000  # overlaps of masks are counted on no more of them


@dataclass(frozen=True)
class MapChange:
    """Two maps of classes.

    Args:
        changed: ``[H, W]``, true where the class is another one.
    """

    changed: np.ndarray

    @property
    def share(self) -> float:
        """The fraction of pixels that changed class."""
        return float(self.changed.mean())

    @property
    def caption(self) -> str:
        """The change in a few words."""
        return f'{self.share:.1%} of pixels change class'


@dataclass(frozen=True)
class ObjectChange:
    """Two sets of objects.

    Args:
        before: Those of the first prediction.
        after: Those of the second.
        kept: Indices in both of objects that are in both.
        vanished: Indices of those that are in the first only.
        appeared: Indices of those that are in the second only.
    """

    before: Objects
    after: Objects
    kept: tuple[tuple[int, int], ...]
    vanished: tuple[int, ...]
    appeared: tuple[int, ...]

    @property
    def caption(self) -> str:
        """The change in a few words."""
        return f'{len(self.kept)} kept, {len(self.vanished)} vanish, {len(self.appeared)} appear'


def compare_predictions(
    before: BaseDataElement, after: BaseDataElement, size: tuple[int, int], score_thr: float, iou_thr: float = 0.5
) -> MapChange | ObjectChange | None:
    """What changes from one prediction to another; ``None`` if they are neither maps of classes nor objects.

    Args:
        before: The first prediction, a data sample of an mm package.
        after: The second one.
        size: Height and width in pixels of the image that they speak of.
        score_thr: Objects with no higher score are left out.
        iou_thr: Least overlap of two objects that are taken for one.
    """
    maps = [class_map(sample) for sample in (before, after)]
    if maps[0] is not None:
        return compare_maps(*maps)
    objects = [objects_of(sample, score_thr) for sample in (before, after)]
    return None if objects[0] is None else match_objects(*objects, iou_thr, distance=_SAME_CENTER * max(size))


def compare_maps(before: np.ndarray, after: np.ndarray) -> MapChange:
    """Compares two maps ``[H, W]`` of classes.

    Raises:
        ValueError: If they differ in size.
    """
    if before.shape != after.shape:
        raise ValueError(f'maps of classes must have one size, got {before.shape} and {after.shape}.')
    return MapChange(before != after)


def match_objects(before: Objects, after: Objects, iou_thr: float = 0.5, distance: float = 0.0) -> ObjectChange:
    """Pairs the objects of two predictions: of one class, and in one place.

    The one with the highest score chooses first, and takes what overlaps it most. Masks are compared where there are
    masks, boxes otherwise, and of 3D boxes the centres.

    Args:
        before: The first prediction.
        after: The second one.
        iou_thr: Least intersection over union of a pair.
        distance: Greatest distance in pixels of two centres of a pair.
    """
    closeness, least = _closeness(before, after), (-distance if before.boxes is None else iou_thr)
    closeness = np.where(before.labels[:, None] == after.labels[None], closeness, -np.inf)
    kept, free = [], np.ones(len(after), dtype=bool)
    for index in np.argsort(-before.scores, kind='stable'):
        candidates = np.where(free, closeness[index], -np.inf)
        if len(after) and candidates.max() >= least:
            choice = int(candidates.argmax())
            free[choice] = False
            kept.append((int(index), choice))
    partners = {index for index, _ in kept}
    return ObjectChange(
        before,
        after,
        kept=tuple(kept),
        vanished=tuple(index for index in range(len(before)) if index not in partners),
        appeared=tuple(np.flatnonzero(free).tolist()),
    )


def box_overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``[N, M]`` intersection over union of boxes ``[N, 4]`` and ``[M, 4]``."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = (high - low).clip(min=0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(-1) for boxes in (first, second)]
    return common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-9)


def mask_overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``[N, M]`` intersection over union of masks ``[N, H, W]`` and ``[M, H, W]``, on every so many pixels of large
    ones.
    """
    step = max(1, int(np.ceil(np.sqrt(np.prod(first.shape[1:]) / _MASK_PIXELS))))
    pixels = first[:1, ::step, ::step].size or second[:1, ::step, ::step].size
    flat = [masks[:, ::step, ::step].reshape(len(masks), pixels).astype(np.float32) for masks in (first, second)]
    common = flat[0] @ flat[1].T
    return common / np.maximum(flat[0].sum(1)[:, None] + flat[1].sum(1)[None] - common, 1e-9)


def _closeness(before: Objects, after: Objects) -> np.ndarray:
    """``[N, M]``, the greater the closer: overlaps, or distances of centres below zero."""
    if before.boxes is None:
        return -np.linalg.norm(before.centers[:, None] - after.centers[None], axis=-1)
    if before.masks is not None and after.masks is not None:
        return mask_overlaps(before.masks, after.masks)
    return box_overlaps(before.boxes, after.boxes)
