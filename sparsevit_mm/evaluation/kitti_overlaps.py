"""Overlaps of KITTI boxes on the CPU: in the image, in bird's eye view, and in space.

A box is a row ``(x, y, z, length, height, width, rotation_y)`` in metres and radians in camera
coordinates (x right, y down, z forward); ``(x, y, z)`` is the centre of its bottom face.
"""

import numpy as np

__all__ = ['bev_overlaps', 'image_overlaps', 'space_overlaps']

# A turn by this many radians takes two boxes out of an exact match. It changes what a 12 m x 0.5 m box
# shares with itself by 0.06%, less than the share that counts as lost.
TURN = 1e-4
LOST = 2e-3


def image_overlaps(boxes: np.ndarray, others: np.ndarray, *, over_first: bool = False) -> np.ndarray:
    """Intersection over union of axis-aligned image boxes.

    Args:
        boxes: [D, 4], (left, top, right, bottom) in pixels.
        others: [G, 4], likewise.
        over_first: Divide by the area of the box in ``boxes`` instead of by the union.

    Returns:
        [D, G], 0 where boxes do not meet.
    """
    top_left = np.maximum(boxes[:, None, :2], others[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inter = np.clip(bottom_right - top_left, 0, None).prod(-1)  # [D, G]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)[:, None]
    union = areas if over_first else areas + (others[:, 2:] - others[:, :2]).prod(-1)[None] - inter
    return _ratio(inter, np.broadcast_to(union, inter.shape))


def bev_overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of footprints on the ground, [D, 7] and [G, 7] to [D, G]."""
    inter = _footprint_intersections(boxes, others)
    areas, other_areas = boxes[:, 3] * boxes[:, 5], others[:, 3] * others[:, 5]
    return _ratio(inter, areas[:, None] + other_areas[None] - inter)


def space_overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of volumes, [D, 7] and [G, 7] to [D, G]."""
    bottom = np.minimum(boxes[:, None, 1], others[None, :, 1])  # y points down
    top = np.maximum((boxes[:, 1] - boxes[:, 4])[:, None], (others[:, 1] - others[:, 4])[None])
    inter = _footprint_intersections(boxes, others) * np.clip(bottom - top, 0, None)
    volumes, other_volumes = boxes[:, 3:6].prod(-1), others[:, 3:6].prod(-1)
    return _ratio(inter, volumes[:, None] + other_volumes[None] - inter)


def _footprint_intersections(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Areas shared by footprints, [D, G] in square metres.

    ``box_iou_rotated`` loses vertices where edges of two boxes coincide up to the last bits of a
    float, and then reports as little as a third of the true area. A slightly turned box does not
    have this trouble, so where turning adds more than `LOST` of the smaller area its result counts.
    """
    areas, other_areas = boxes[:, 3] * boxes[:, 5], others[:, 3] * others[:, 5]
    smaller = np.minimum(areas[:, None], other_areas[None])
    flat, other_flat = boxes[:, [0, 2, 3, 5, 6]], others[:, [0, 2, 3, 5, 6]]
    with np.errstate(invalid='ignore'):  # boxes of infinite size overlap nothing
        inter = _shared_fraction(flat, other_flat) * areas[:, None]
        turned = _shared_fraction(flat + [0, 0, 0, 0, TURN], other_flat) * areas[:, None]
        return np.clip(np.where(turned - inter > LOST * smaller, turned, inter), 0, smaller)


def _shared_fraction(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over the area of the first box, for rows (x, z, length, width, angle)."""
    import torch
    from mmcv.ops import box_iou_rotated

    # KITTI's rotation about y takes x to -z, which mmcv calls counter-clockwise.
    rows = [torch.from_numpy(array).float() for array in (boxes, others)]
    return box_iou_rotated(*rows, mode='iof', clockwise=False).double().numpy()


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=part > 0)
