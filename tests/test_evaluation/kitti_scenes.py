"""Drawn KITTI scenes, and mmdet3d's own evaluation of them in a process of its own.

Run as a program it evaluates scenes by mmdet3d's ``kitti_eval``: the first set with mmdet3d's CUDA
kernels in numba's simulator (NUMBA_ENABLE_CUDASIM=1), the second, too large for that, with exact
polygon intersections from shapely in their place.
"""

import json
import sys

import numpy as np

CLASSES = ['Pedestrian', 'Cyclist', 'Car']
SIZES = {
    'Pedestrian': (0.8, 1.7, 0.6),
    'Cyclist': (1.8, 1.7, 0.6),
    'Car': (3.9, 1.5, 1.6),
    'Van': (5.0, 2.2, 1.9),
    'Person_sitting': (0.8, 1.3, 0.6),
    'Truck': (10.0, 3.2, 2.6),
}
FOCAL, CENTRE = 720.0, (610.0, 175.0)


def draw_scenes(seed: int, num_images: int, objects: int, noise: float = 1) -> tuple[list[dict], list[dict]]:
    """Ground truth and detections that find some objects, miss some, and invent some."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(num_images):
        count = int(rng.integers(0, objects + 1)) if truth else objects  # mmdet3d reads the first image's first alpha
        names = rng.choice(list(SIZES), count, p=[0.25, 0.2, 0.35, 0.08, 0.06, 0.06])
        boxes = np.array([_draw_box(rng, name) for name in names]).reshape(-1, 7)
        anno = _anno(names, boxes)
        anno['occluded'] = rng.choice([0, 0, 0, 0, 0, 1, 2, 3], count)
        anno['truncated'] = rng.choice([0.0, 0.0, 0.0, 0.1, 0.1, 0.2, 0.4, 0.6], count)
        truth.append(_with_dontcare(anno, rng))

        kept = rng.random(count) < 0.85
        shift = noise * rng.normal(size=(kept.sum(), 7)) * [0.15, 0.06, 0.3, 0.15, 0.05, 0.08, 0.1]
        guesses = rng.choice(CLASSES, 3)
        found_names = [*names[kept], *guesses]
        # Some take another class's name; classes that are no detector's become cars.
        found_names = [n if n in CLASSES and rng.random() < 0.9 else rng.choice(CLASSES) for n in found_names]
        found_boxes = np.concatenate([boxes[kept] + shift, [_draw_box(rng, name) for name in guesses]])
        anno = _anno(np.array(found_names), found_boxes)
        anno['score'] = rng.random(len(found_names)).round(2)  # with ties
        found.append(anno)
    return truth, found


def _draw_box(rng: np.random.Generator, name: str) -> list[float]:
    size = np.array(SIZES[name]) * rng.uniform(0.85, 1.15, 3)
    depth = rng.uniform(6, 40)
    return [rng.uniform(-0.5, 0.5) * depth, rng.uniform(1.4, 1.9), depth, *size, rng.uniform(-np.pi, np.pi)]


def _anno(names: np.ndarray, boxes: np.ndarray) -> dict:
    x, y, z, length, height, _, angle = boxes.T
    left, right = (x - length / 2) / z, (x + length / 2) / z
    top, bottom = (y - height) / z, y / z
    bbox = np.stack([left, top, right, bottom], axis=1) * FOCAL + [*CENTRE, *CENTRE]
    return dict(
        name=names,
        truncated=np.zeros(len(names)),
        occluded=np.zeros(len(names)),
        alpha=angle - np.arctan2(x, z),
        bbox=bbox,
        dimensions=boxes[:, 3:6],
        location=boxes[:, :3],
        rotation_y=angle,
    )


def _with_dontcare(anno: dict, rng: np.random.Generator) -> dict:
    corner = rng.uniform([0, 150], [1100, 200], (2, 2))
    extra = dict(
        name=np.array(['DontCare'] * 2),
        truncated=np.full(2, -1.0),
        occluded=np.full(2, -1.0),
        alpha=np.full(2, -10.0),
        bbox=np.concatenate([corner, corner + rng.uniform(30, 150, (2, 2))], axis=1),
        dimensions=np.full((2, 3), -1.0),
        location=np.full((2, 3), -1000.0),
        rotation_y=np.full(2, -10.0),
    )
    return {key: np.concatenate([anno[key], extra[key]]) for key in anno}


def corners(box: np.ndarray) -> np.ndarray:
    """The footprint of (x, z, length, width, rotation_y) by KITTI's definition, [4, 2] as (x, z)."""
    x, z, length, width, angle = box
    along, across = np.array([1, 1, -1, -1]) * length / 2, np.array([1, -1, -1, 1]) * width / 2
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([x + cos * along + sin * across, z - sin * along + cos * across], axis=1)


def shared_areas(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Exact areas of intersection of footprints, [D, 5] and [G, 5] to [D, G]."""
    from shapely.geometry import Polygon

    polygons = [[Polygon(corners(box)) for box in rows] for rows in (boxes, others)]
    return np.array([[a.intersection(b).area for b in polygons[1]] for a in polygons[0]]).reshape(
        len(boxes), len(others)
    )


def exact_rotate_iou(boxes: np.ndarray, others: np.ndarray, criterion: int = -1, device_id: int = 0) -> np.ndarray:
    """Stands in for mmdet3d's function of CUDA kernels; criterion 2 asks for the area."""
    inter = shared_areas(boxes, others)
    union = (boxes[:, 2] * boxes[:, 3])[:, None] + (others[:, 2] * others[:, 3])[None] - inter
    return inter / union if criterion == -1 else inter


def footprints(seed: int, count: int) -> np.ndarray:
    """Boxes close to each other, 60 m away: (x, z, length, width, rotation_y), [count, 5]."""
    rng = np.random.default_rng(seed)
    low, high = [-3, 60, 0.5, 0.5, -np.pi], [3, 64, 5, 5, np.pi]
    return rng.uniform(low, high, (count, 5))


def main() -> None:
    import mmdet3d.evaluation.functional.kitti_utils.rotate_iou as rotate_iou
    from mmdet3d.evaluation import kitti_eval
    from mmdet3d.evaluation.functional.kitti_utils import eval as evaluation

    overlaps = rotate_iou.rotate_iou_gpu_eval(footprints(2, 8), footprints(3, 8))
    results = [overlaps.tolist()]
    for i, scene in enumerate(json.loads(sys.argv[1])):
        if i == 1:
            rotate_iou.rotate_iou_gpu_eval = exact_rotate_iou
        truth, found = draw_scenes(**scene)
        results.append({name: float(ap) for name, ap in kitti_eval(truth, found, CLASSES)[1].items()})
        overlaps = np.array([[0.5, 0.5, 0.7]])[None].repeat(3, 1)
        similarity = evaluation.eval_class(truth, found, [1, 2, 0], [0, 1, 2], 0, overlaps, True)['orientation']
        results[-1]['aos'] = evaluation.get_mAP40(similarity)[..., 0].tolist()
    print('RESULT' + json.dumps(results))


if __name__ == '__main__':
    main()
