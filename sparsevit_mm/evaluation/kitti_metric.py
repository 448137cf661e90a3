"""KITTI evaluation of monocular 3D detectors on the CPU."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.fileio import load
from mmengine.logging import MMLogger, print_log

from ..registry import METRICS
from .kitti_ap import CLASSES, DIFFICULTIES, KINDS, kitti_average_precision

__all__ = ['KittiMonoMetric']

KINDS_OF_METRIC = {'bbox': KINDS, 'img_bbox': ('2D', 'AOS')}


@METRICS.register_module()
class KittiMonoMetric(BaseMetric):
    """AP in the image, in bird's eye view and in space by KITTI's rules, without a CUDA card.

    It takes the place of mmdet3d's ``KittiMetric``, whose rotated overlaps are CUDA kernels, by a
    change of ``type`` alone. The names of its results are mmdet3d's:
    ``pred_instances_3d/KITTI/Car_3D_AP40_moderate_strict`` (required overlap .7 for cars, .5 for
    pedestrians and cyclists; ``loose``: .5 and .25) with ``3D``, ``BEV`` or ``2D``, ``AP40`` or
    ``AP11``, and ``easy``, ``moderate`` or ``hard``, and over the classes
    ``pred_instances_3d/KITTI/Overall_3D_AP40_moderate`` with the strict overlaps, which is the one
    to report. Beside these there are ``.../Overall_3D_AP40_moderate_loose``, which tells weak
    detectors apart, and orientation similarity, ``.../Car_AOS_AP40_moderate``. Boxes in the image
    are projections of the boxes in space.

    Two things differ from mmdet3d: images are looked up in the annotation file by file name, so any
    part of a data set can be evaluated (mmdet3d takes the index in the evaluated set for the index in
    the file), and a first image without detections does not void the evaluation.

    Args:
        ann_file: Info file (v1.1) that holds the evaluated images.
        metric: 'bbox' for all kinds of boxes, 'img_bbox' for those in the image alone.
        classes: Those to evaluate; by default all of the data set that KITTI evaluates.
        default_cam_key: The camera whose images are evaluated.
        collect_device: Where results of several ranks are collected, 'cpu' or 'gpu'.
        prefix: Replaces ``pred_instances_3d/KITTI`` in the names.
        backend_args: For reading the file, see ``mmengine.fileio``.

    Raises:
        ValueError: On an unknown metric or class.
    """

    default_prefix = 'pred_instances_3d/KITTI'

    def __init__(
        self,
        ann_file: str,
        metric: str = 'bbox',
        classes: Sequence[str] | None = None,
        default_cam_key: str = 'CAM2',
        collect_device: str = 'cpu',
        prefix: str | None = None,
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if metric not in KINDS_OF_METRIC:
            raise ValueError(f'metric must be one of {", ".join(map(repr, KINDS_OF_METRIC))}, got {metric!r}.')
        unknown = [name for name in classes or () if name not in CLASSES]
        if unknown:
            raise ValueError(f'classes has {unknown[0]!r}, but KITTI evaluates {", ".join(CLASSES)} alone.')
        self.ann_file = ann_file
        self.kinds = KINDS_OF_METRIC[metric]
        self.classes = classes
        self.default_cam_key = default_cam_key
        self.backend_args = backend_args

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keeps the boxes of a batch and the names of its images."""
        for sample in data_samples:
            if not isinstance(sample.get('img_path'), str):
                raise ValueError(
                    f'KittiMonoMetric finds the ground truth of an image by its file name, but the data sample has '
                    f'img_path={sample.get("img_path")!r}. Leave img_path in meta_keys of Pack3DDetInputs, and use '
                    f'a data set that gives one image a sample (load_type fov_image_based).'
                )
            boxes = {key: sample['pred_instances_3d'][key].to('cpu') for key in ('bboxes_3d', 'scores_3d', 'labels_3d')}
            self.results.append({'image': PurePosixPath(sample['img_path']).name, 'boxes': boxes})

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """AP in percent, rounded as mmdet3d does it.

        Raises:
            ValueError: If there are no results, the annotation file lacks an evaluated image or its
                objects, or the data set has no class that KITTI evaluates.
        """
        names = list(self.dataset_meta['classes'])
        classes = [name for name in self.classes or names if name in names and name in CLASSES]
        if not results or not classes:
            what = f'classes {names}, none to evaluate' if results else 'no images'
            raise ValueError(
                f'KittiMonoMetric got {what}; it needs results and some of {", ".join(self.classes or CLASSES)}.'
            )
        from mmdet3d.evaluation import KittiMetric

        # mmdet3d's class converts boxes and annotations, all of it on the CPU.
        converter = KittiMetric(self.ann_file, default_cam_key=self.default_cam_key)
        truth = converter.convert_annos_to_kitti_annos(self._infos_of([result['image'] for result in results]))
        found = [_detections(converter, result['boxes'], info, names) for result, info in zip(results, truth)]
        scores = kitti_average_precision([info['kitti_annos'] for info in truth], found, classes, self.kinds)
        print_log(f'{len(results)} images\n{_table(scores, classes, self.kinds)}', MMLogger.get_current_instance())
        return {name: round(value, 4) for name, value in scores.items()}

    def _infos_of(self, images: Sequence[str]) -> dict:
        """The annotation file with the entries of these images, in their order."""
        content = load(self.ann_file, backend_args=self.backend_args)
        camera, data_list = self.default_cam_key, content['data_list']
        lacking = [entry for entry in data_list if 'img_path' not in entry['images'].get(camera, {})]
        if lacking:
            known = [key for key, view in lacking[0]['images'].items() if isinstance(view, dict) and 'img_path' in view]
            raise ValueError(
                f'default_cam_key is {camera!r}, but ann_file {self.ann_file} has images of {", ".join(known)}.'
            )
        entries = {PurePosixPath(entry['images'][camera]['img_path']).name: entry for entry in data_list}
        for image in images:
            if image not in entries:
                raise ValueError(
                    f'image {image} was evaluated, but ann_file {self.ann_file} has no entry for it. Give the metric '
                    f'the ann_file of the evaluated data set.'
                )
            if 'instances' not in entries[image]:
                raise ValueError(f'ann_file {self.ann_file} has no instances for {image}: it cannot be evaluated.')
        # Copies, since an image can occur twice and the converter writes into its entries.
        return {'metainfo': content['metainfo'], 'data_list': [dict(entries[image]) for image in images]}


def _detections(converter: object, boxes: Mapping, info: Mapping, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Boxes of one image in KITTI's form: those that project into the image, clipped to it in the image."""
    valid = converter.convert_valid_bboxes(dict(boxes), info)
    size = [info['images'][converter.default_cam_key][side] for side in ('width', 'height')]
    count = len(valid['bbox'])
    box, bbox = valid['box3d_camera'], np.array(valid['bbox'])
    bbox[:, :2] = np.maximum(bbox[:, :2], 0)
    bbox[:, 2:] = np.minimum(bbox[:, 2:], size)
    return {
        'name': np.array([names[int(label)] for label in valid['label_preds'][:count]], dtype=object),
        'bbox': bbox,
        'location': box[:, :3],
        'dimensions': box[:, 3:6],
        'rotation_y': box[:, 6],
        'alpha': box[:, 6] - np.arctan2(box[:, 0], box[:, 2]),
        'score': np.asarray(valid['scores']),
    }


def _table(scores: Mapping[str, float], classes: Sequence[str], kinds: Sequence[str]) -> str:
    """AP40 of every class and kind, easy, moderate and hard, with strict and loose overlaps."""
    levels = [difficulty.name for difficulty in DIFFICULTIES]
    lines = [f'{"AP40":<16}' + ''.join(f'{level:>16}' for level in [*levels, *(f'{n}, loose' for n in levels)])]
    for name in [*classes, 'Overall']:
        for kind in kinds:
            keys = [f'{name}_{kind}_AP40_{level}{bound}' for bound in ('_strict', '_loose') for level in levels]
            values = [scores.get(key, scores.get(key.removesuffix('_strict'))) for key in keys]
            cells = ('' if value is None else f'{value:.4f}' for value in values)
            lines.append(f'{name + " " + kind:<16}' + ''.join(f'{cell:>16}' for cell in cells))
    return '\n'.join(lines)
