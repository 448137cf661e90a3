"""Average precision of 3D boxes by the distance of their centres, for any part of a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from mmengine.evaluator import BaseMetric

from ..registry import METRICS

__all__ = ['CenterDistanceMetric', 'Centers', 'center_distance_ap']

_RECALLS = np.linspace(0, 1, 101)
_LEAST_RECALL, _LEAST_PRECISION = 0.1, 0.1


@dataclass(frozen=True)
class Centers:
    """Boxes of one class on the ground.

    Args:
        images: Number of the image that each box belongs to, ``[n]``.
        places: Centres on the ground in metres, ``[n, 2]``.
        scores: Confidences, ``[n]``; not used of the ground truth.
    """

    images: np.ndarray
    places: np.ndarray
    scores: np.ndarray


@METRICS.register_module()
class CenterDistanceMetric(BaseMetric):
    """The mAP of nuScenes without its devkit: what a search can score a part of the training set by.

    mmdet3d's ``NuScenesMetric`` insists on all samples of the official ``val`` split. This one takes the ground
    truth that comes with the images, matches boxes as the devkit does (arXiv 1903.11027, section 3.1) and averages
    AP over distances and classes. It ranks models of one kind and is no substitute for the official numbers:

    - A sample is what the data set gives as one. For monocular detectors that is an image: boxes are compared in the
      camera's frame, and an object that two of the six cameras see counts twice. The devkit merges the cameras of a
      moment and compares in the world's frame.
    - One range holds for all classes, from the camera or the sensor; the devkit has 50 m for vehicles, 40 m for
      pedestrians and cycles, 30 m for cones and barriers, from the car.
    - Objects without a lidar or radar point are left out where the data set does so (``use_valid_flag``); cycles in
      bicycle racks count.
    - Classes without an object among the images are left out of the mean, where they are 0 for the devkit.
    - Translation, scale, orientation, velocity and attributes are not judged, so there is no NDS.

    The results are ``center_distance/mAP`` and ``center_distance/CLASS_AP``, in percent.

    Args:
        thresholds: Distances in metres below which a detection is right.
        max_distance: Boxes farther than this from the camera, or from the sensor whose frame the boxes are in, are
            left out, in metres.
        collect_device: Where results of several ranks are collected, 'cpu' or 'gpu'.
        prefix: Replaces ``center_distance`` in the names.

    Raises:
        ValueError: If there are no thresholds, or a distance is not positive.
    """

    default_prefix = 'center_distance'

    def __init__(
        self,
        thresholds: Sequence[float] = (0.5, 1.0, 2.0, 4.0),
        max_distance: float = 50.0,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if not thresholds or min(*thresholds, max_distance) <= 0:
            raise ValueError(
                f'thresholds and max_distance must be distances in metres above 0, got {thresholds} and {max_distance}.'
            )
        self.thresholds, self.max_distance = tuple(thresholds), max_distance

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keeps the centres of a batch.

        Raises:
            ValueError: If an image comes without its ground truth.
        """
        for sample in data_samples:
            truth = sample.get('eval_ann_info')
            if truth is None:
                raise ValueError(
                    'CenterDistanceMetric takes the ground truth that comes with the images, but a data sample has no '
                    'eval_ann_info: the data set needs test_mode=True and annotations.'
                )
            found = sample['pred_instances_3d']
            self.results.append(
                dict(
                    truth=_on_ground(truth['gt_bboxes_3d'], truth['gt_labels_3d']),
                    found=_on_ground(found['bboxes_3d'], found['labels_3d'], found['scores_3d']),
                )
            )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """AP of every class that occurs, and their mean.

        Raises:
            ValueError: If no object occurs at all.
        """
        scores = {}
        for label, name in enumerate(self.dataset_meta['classes']):
            truth, found = (self._of_class(results, label, key) for key in ('truth', 'found'))
            if len(truth.images):
                aps = [center_distance_ap(truth, found, threshold) for threshold in self.thresholds]
                scores[f'{name}_AP'] = 100 * float(np.mean(aps))
        if not scores:
            raise ValueError(
                f'none of the {len(results)} images holds an object within {self.max_distance} m of the camera. Take '
                f'more images, or a greater max_distance.'
            )
        return dict(mAP=float(np.mean(list(scores.values()))), **scores)

    def _of_class(self, results: Sequence[Mapping], label: int, key: str) -> Centers:
        images, places, scores = [], [], []
        for image, result in enumerate(results):
            centres, labels, confidence = result[key]
            chosen = (labels == label) & (np.linalg.norm(centres, axis=1) <= self.max_distance)
            images.append(np.full(chosen.sum(), image))
            places.append(centres[chosen])
            scores.append(confidence[chosen])
        return Centers(*map(np.concatenate, (images, places, scores)))


def _on_ground(boxes: object, labels: object, scores: object | None = None) -> tuple[np.ndarray, ...]:
    """Centres on the ground of the boxes' frame ``[n, 2]``, labels and scores ``[n]`` as arrays."""
    places = np.asarray(boxes.bev[:, :2].detach().cpu(), np.float64)
    labels = np.asarray(labels.detach().cpu() if hasattr(labels, 'detach') else labels)
    confidence = np.zeros(len(labels)) if scores is None else np.asarray(scores.detach().float().cpu(), np.float64)
    return places, labels, confidence


def center_distance_ap(truth: Centers, found: Centers, threshold: float) -> float:
    """AP in [0, 1] of one class at one distance.

    From the most to the least confident detection, each takes the nearest object of its image that is still free, if
    it is near enough. Precision is read at 101 recalls, without those up to a tenth, and counted from a tenth on.

    Args:
        truth: The objects, at least one.
        found: The detections.
        threshold: In metres.
    """
    objects = {image: np.flatnonzero(truth.images == image) for image in np.unique(truth.images)}
    free = np.ones(len(truth.images), bool)
    hits = np.zeros(len(found.images), bool)
    for rank, index in enumerate(np.argsort(-found.scores, kind='stable')):
        candidates = objects.get(found.images[index], np.empty(0, int))
        candidates = candidates[free[candidates]]
        if not len(candidates):
            continue
        distances = np.linalg.norm(truth.places[candidates] - found.places[index], axis=1)
        nearest = distances.argmin()
        if distances[nearest] < threshold:
            hits[rank] = True
            free[candidates[nearest]] = False
    if not hits.any():
        return 0.0
    right = np.cumsum(hits)
    precision = np.interp(_RECALLS, right / len(truth.images), right / np.arange(1, len(hits) + 1), right=0)
    counted = precision[round(100 * _LEAST_RECALL) + 1 :] - _LEAST_PRECISION
    return float(counted.clip(0).mean() / (1 - _LEAST_PRECISION))
