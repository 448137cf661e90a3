"""Average precision by the rules of KITTI's development kit, in NumPy.

The reference is the kit's ``evaluate_object.cpp`` and mmdet3d 1.4.0's ``kitti_eval``, whose results
this module reproduces; mmdet3d computes rotated overlaps in CUDA kernels, this module does not.

Shapes: D detections and G ground-truth objects of an image, T score thresholds (at most 41).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .kitti_overlaps import bev_overlaps, image_overlaps, space_overlaps

__all__ = ['CLASSES', 'DIFFICULTIES', 'KINDS', 'kitti_average_precision']

KINDS = ('2D', 'BEV', '3D', 'AOS')
IN_IMAGE = ('2D', 'AOS')  # the kit has no loose overlaps for these
RECALL_POINTS = 41


@dataclass(frozen=True)
class Difficulty:
    """Which ground truth counts: visible height above, occlusion and truncation at most these."""

    name: str
    min_height: float
    max_occlusion: int
    max_truncation: float


@dataclass(frozen=True)
class ObjectClass:
    """Required overlaps of a class, and the similar class that is neither demanded nor held against a detector."""

    name: str
    strict: float
    loose: float
    neighbour: str | None = None


DIFFICULTIES = (Difficulty('easy', 40, 0, 0.15), Difficulty('moderate', 25, 1, 0.3), Difficulty('hard', 25, 2, 0.5))
CLASSES = {
    'Car': ObjectClass('Car', 0.7, 0.5, 'van'),
    'Pedestrian': ObjectClass('Pedestrian', 0.5, 0.25, 'person_sitting'),
    'Cyclist': ObjectClass('Cyclist', 0.5, 0.25),
}


@dataclass(frozen=True)
class _Frame:
    """What one image contributes to a class at a difficulty; objects of other classes are left out."""

    overlaps: np.ndarray  # [D, G]
    scores: np.ndarray  # [D]
    ignored: np.ndarray  # [D], too small to count
    ignored_truth: np.ndarray  # [G], too hard or of the neighbouring class
    dontcare: np.ndarray  # [D], the largest part of the box within a DontCare region
    similarity: np.ndarray  # [D, G], (1 + cos(difference of observation angles)) / 2


def kitti_average_precision(
    ground_truth: Sequence[Mapping[str, np.ndarray]],
    detections: Sequence[Mapping[str, np.ndarray]],
    classes: Sequence[str],
    kinds: Sequence[str] = KINDS,
) -> dict[str, float]:
    """AP11 and AP40 in percent for every class, kind, difficulty and required overlap.

    A class without ground truth has precision 0. With fewer than 41 objects of a class the recall
    points after the last object stay empty, as in the development kit: ten objects found without an
    error give an AP40 of 22.5.

    Args:
        ground_truth: One mapping an image in mmdet3d's KITTI form: ``name, truncated, occluded,
            alpha, bbox [G, 4], dimensions [G, 3] (length, height, width), location [G, 3],
            rotation_y``.
        detections: The same images in the same order, with ``score``.
        classes: Names out of `CLASSES`.
        kinds: Names out of `KINDS`; AOS, the orientation similarity, matches boxes in the image.

    Returns:
        ``{class}_{kind}_{AP11|AP40}_{difficulty}_{strict|loose}``, and over all classes
        ``Overall_{kind}_{AP11|AP40}_{difficulty}`` (strict) and for BEV and 3D the same with ``_loose``.
        In the image both bounds are the same, and AOS goes without the last part.
    """
    pairs = [(_with_boxes(truth), _with_boxes(found)) for truth, found in zip(ground_truth, detections, strict=True)]
    results: dict[str, float] = {}
    for kind in kinds:
        overlaps = [_overlaps(kind, truth, found) for truth, found in pairs]
        for name in classes:
            wanted = CLASSES[name]
            for difficulty in DIFFICULTIES:
                frames = [_frame(*pair, table, wanted, difficulty) for pair, table in zip(pairs, overlaps)]
                strict = _ap(frames, kind, wanted.strict)
                loose = strict if kind in IN_IMAGE else _ap(frames, kind, wanted.loose)
                for rule, ap in zip(('AP11', 'AP40'), zip(strict, loose)):
                    key = f'{name}_{kind}_{rule}_{difficulty.name}'
                    results |= {key: ap[0]} if kind == 'AOS' else {f'{key}_strict': ap[0], f'{key}_loose': ap[1]}
    return results | _overall(results, classes, kinds)


def _overall(results: Mapping[str, float], classes: Sequence[str], kinds: Sequence[str]) -> dict[str, float]:
    means = {}
    for kind in kinds:
        endings = {'AOS': ('',), '2D': ('_strict',)}.get(kind, ('_strict', '_loose'))
        for rule in ('AP11', 'AP40'):
            for difficulty in DIFFICULTIES:
                key = f'{kind}_{rule}_{difficulty.name}'
                for ending in endings:
                    mean = np.mean([results[f'{name}_{key}{ending}'] for name in classes])
                    means[f'Overall_{key}{ending.removesuffix("_strict")}'] = float(mean)
    return means


def _with_boxes(objects: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays as float64, with lower-case names and the boxes in space as one array [N, 7]."""
    columns = {key: np.asarray(objects[key], dtype=np.float64) for key in objects if key not in ('name', 'sample_idx')}
    names = np.array([str(name).lower() for name in objects['name']], dtype=object)
    count = len(names)
    columns['bbox'] = columns['bbox'].reshape(count, 4)
    shapes = [columns['location'].reshape(count, 3), columns['dimensions'].reshape(count, 3)]
    return columns | {'name': names, 'box': np.concatenate([*shapes, columns['rotation_y'].reshape(count, 1)], axis=1)}


def _overlaps(kind: str, truth: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> np.ndarray:
    if kind in IN_IMAGE:
        return image_overlaps(found['bbox'], truth['bbox'])
    if not len(found['box']) or not len(truth['box']):
        return np.zeros((len(found['box']), len(truth['box'])))
    return {'BEV': bev_overlaps, '3D': space_overlaps}[kind](found['box'], truth['box'])


def _frame(
    truth: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    overlaps: np.ndarray,
    wanted: ObjectClass,
    difficulty: Difficulty,
) -> _Frame:
    """Sorts the objects of an image into those that count, those that are ignored, and the rest."""
    name = wanted.name.lower()
    of_class = truth['name'] == name
    too_hard = (
        (truth['occluded'] > difficulty.max_occlusion)
        | (truth['truncated'] > difficulty.max_truncation)
        | (truth['bbox'][:, 3] - truth['bbox'][:, 1] <= difficulty.min_height)
    )
    g = np.flatnonzero(of_class | (truth['name'] == wanted.neighbour))
    # As in the kit, a small box is ignored whatever its class is, and so can take an object away.
    small = np.abs(found['bbox'][:, 3] - found['bbox'][:, 1]) < difficulty.min_height
    d = np.flatnonzero((found['name'] == name) | small)
    regions = truth['bbox'][truth['name'] == 'dontcare']
    inside = image_overlaps(found['bbox'][d], regions, over_first=True)
    return _Frame(
        overlaps=overlaps[np.ix_(d, g)],
        scores=found['score'][d],
        ignored=small[d],
        ignored_truth=(~of_class | too_hard)[g],
        dontcare=inside.max(axis=1, initial=0),
        similarity=(1 + np.cos(truth['alpha'][g][None] - found['alpha'][d][:, None])) / 2,
    )


def _ap(frames: Sequence[_Frame], kind: str, min_overlap: float) -> tuple[float, float]:
    """AP11 and AP40 of one class."""
    num_truth = sum(int((~frame.ignored_truth).sum()) for frame in frames)
    scores = [score for frame in frames for score in _matched_scores(frame, min_overlap)]
    thresholds = _thresholds(scores, num_truth)
    counts = np.zeros((3, len(thresholds)))  # true positives, false positives, similarity
    for frame in frames:
        counts += _count(frame, min_overlap, thresholds, with_dontcare=kind in IN_IMAGE)
    true, false, similarity = counts
    hits = similarity if kind == 'AOS' else true
    precision = np.divide(hits, true + false, out=np.zeros_like(hits), where=true + false > 0)
    curve = np.zeros(RECALL_POINTS)
    curve[: len(thresholds)] = np.maximum.accumulate(precision[::-1])[::-1]
    return float(curve[::4].sum() / 11 * 100), float(curve[1:].sum() / 40 * 100)


def _matched_scores(frame: _Frame, min_overlap: float) -> list[float]:
    """Scores of the detections that find an object when every object takes its best-scored one."""
    free = np.ones(len(frame.scores), dtype=bool)
    scores = []
    for g, ignored_truth in enumerate(frame.ignored_truth):
        candidates = free & (frame.overlaps[:, g] > min_overlap)
        if not candidates.any():
            continue
        best = int(np.argmax(np.where(candidates, frame.scores, -np.inf)))
        free[best] = False
        if not ignored_truth and not frame.ignored[best]:
            scores.append(float(frame.scores[best]))
    return scores


def _thresholds(scores: Sequence[float], num_truth: int) -> np.ndarray:
    """The scores at which recall comes closest to 0, 1/40, 2/40, ..., from the highest on."""
    thresholds: list[float] = []
    recall = 0.0
    ordered = sorted(scores, reverse=True)
    for i, score in enumerate(ordered, start=1):
        here, following = i / num_truth, (i + 1) / num_truth
        if i < len(ordered) and following - recall < recall - here:
            continue
        thresholds.append(score)
        recall += 1 / (RECALL_POINTS - 1)
    return np.array(thresholds)


def _count(frame: _Frame, min_overlap: float, thresholds: np.ndarray, *, with_dontcare: bool) -> np.ndarray:
    """True positives, false positives and summed similarity of an image, [3, T].

    At every threshold each object in turn takes the free detection with the largest overlap, and an
    ignored one (the first) only where there is no other.
    """
    counts = np.zeros((3, len(thresholds)))
    if not len(frame.scores):
        return counts
    rows = np.arange(len(thresholds))
    free = frame.scores[None] >= thresholds[:, None]  # [T, D]
    for g, ignored_truth in enumerate(frame.ignored_truth):
        overlap = frame.overlaps[:, g]
        candidates = free & (overlap > min_overlap)
        counted = candidates & ~frame.ignored
        found = counted.any(axis=1)
        best = np.where(counted, overlap, -1).argmax(axis=1)
        taken = np.where(found, best, candidates.argmax(axis=1))
        matched = candidates.any(axis=1)
        free[rows[matched], taken[matched]] = False
        if not ignored_truth:
            counts[0] += found
            counts[2] += found * frame.similarity[taken, g]
    wrong = free & ~frame.ignored
    if with_dontcare:
        wrong &= frame.dontcare <= min_overlap
    counts[1] = wrong.sum(axis=1)
    return counts
