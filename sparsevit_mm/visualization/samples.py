"""What is in the data samples of mmdet, mmseg and mmdet3d, as arrays, and the samples made smaller for a picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor

__all__ = ['Objects', 'class_map', 'has_truth', 'in_image', 'objects_of', 'shrink_sample']

_PANOPTIC_OFFSET = 1000  # mmdet: the class is the identity modulo this
_INSTANCES = ('pred_instances', 'gt_instances')
_MAPS = ('pred_sem_seg', 'gt_sem_seg', 'pred_panoptic_seg', 'gt_panoptic_seg')


@dataclass(frozen=True)
class Objects:
    """The objects that were found in an image, in its pixels.

    Args:
        labels: ``[N]`` classes.
        boxes: ``[N, 4]`` left, top, right, bottom; ``None`` where a 3D detector has no boxes in the image.
        masks: ``[N, H, W]`` booleans, ``None`` where there are none.
        centers: ``[N, 2]`` x and y of the centres of 3D boxes, in place of boxes.
        scores: ``[N]``.
    """

    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray | None = None
    masks: np.ndarray | None = None
    centers: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)


def objects_of(sample: BaseDataElement, score_thr: float) -> Objects | None:
    """The predicted objects with a higher score; ``None`` if the model finds no objects but labels pixels.

    Of 3D detectors these are the boxes in the image that some of them predict too, or else the centres, in the pixels
    of the image that the network sees.
    """
    found = sample.get('pred_instances')
    if found is not None and 'scores' in found and _in_place(sample):
        found = _on_cpu(found[found.scores > score_thr])
        masks = _boolean_masks(found.masks) if 'masks' in found else None
        return Objects(found.labels.numpy(), found.scores.numpy(), found.bboxes.numpy(), masks)
    found = sample.get('pred_instances_3d')
    if found is None:
        return None
    found = _on_cpu(found[found.scores_3d > score_thr])
    centers = found.bboxes_3d.gravity_center.numpy() @ np.asarray(sample.cam2img, dtype=np.float64)[:3, :3].T
    centers = centers[:, :2] / np.maximum(centers[:, 2:], 1e-6)
    return Objects(found.labels_3d.numpy(), found.scores_3d.numpy(), centers=centers)


def class_map(sample: BaseDataElement, truth: bool = False) -> np.ndarray | None:
    """``[H, W]`` class of each pixel, of a semantic or a panoptic map; ``None`` if there is none."""
    kind = 'gt' if truth else 'pred'
    for name in ('sem_seg', 'panoptic_seg'):
        pixels = sample.get(f'{kind}_{name}')
        if pixels is not None:
            values = _values(pixels)
            return values % _PANOPTIC_OFFSET if name == 'panoptic_seg' else values
    return None


def has_truth(sample: BaseDataElement) -> bool:
    """Whether a sample carries labels that can be drawn."""
    instances = sample.get('gt_instances')
    return (
        class_map(sample, truth=True) is not None
        or _truth_3d(sample) is not None
        or (instances is not None and ('bboxes' in instances or 'masks' in instances))
    )


def in_image(sample: BaseDataElement) -> BaseDataElement:
    """The boxes that a 3D detector predicts in the image, as a sample of mmdet; any other sample as it is."""
    if 'pred_instances_3d' not in sample:
        return sample
    from mmdet.structures import DetDataSample

    return DetDataSample(metainfo=sample.metainfo, pred_instances=sample.pred_instances)


def shrink_sample(sample: BaseDataElement, size: tuple[int, int], factor: float, score_thr: float) -> BaseDataElement:
    """What a visualizer draws of a sample, for its image made smaller: on the CPU, in single precision.

    Args:
        sample: A data sample with predictions, labels or both; it is left as it is.
        size: Height and width of the smaller image.
        factor: How much smaller it is.
        score_thr: Objects with no higher score are left out.
    """
    small = type(sample)(metainfo=sample.metainfo)
    for name in _MAPS:
        if (pixels := sample.get(name)) is not None:
            small.set_data({name: _shrunk_map(pixels, size)})
    predicted, truth = sample.get('pred_instances_3d'), _truth_3d(sample)
    if predicted is None and truth is None:
        for name in _INSTANCES:
            if (instances := sample.get(name)) is not None:
                small.set_data({name: _shrunk_instances(instances, size, factor, score_thr)})
        return small
    if predicted is not None:
        small.pred_instances_3d = _on_cpu(predicted)
    if truth is not None:
        small.gt_instances_3d = _on_cpu(truth)
    camera = np.array(sample.cam2img, dtype=np.float32)
    camera[:2] *= factor
    small.set_metainfo(dict(cam2img=camera))
    return small


def _in_place(sample: BaseDataElement) -> bool:
    """Whether boxes in the image are where they belong: of 3D detectors only of images that were not resized."""
    return 'pred_instances_3d' not in sample or np.allclose(sample.metainfo.get('scale_factor', 1.0), 1.0)


def _truth_3d(sample: BaseDataElement) -> InstanceData | None:
    """The labels of a 3D detector, which tests keep aside."""
    labels = sample.get('gt_instances_3d')
    if labels is not None and 'bboxes_3d' in labels:
        return labels
    aside = sample.get('eval_ann_info')
    if isinstance(aside, Mapping) and hasattr(aside.get('gt_bboxes_3d'), 'gravity_center'):
        return InstanceData(bboxes_3d=aside['gt_bboxes_3d'], labels_3d=aside['gt_labels_3d'])
    return None


def _shrunk_map(pixels: PixelData, size: tuple[int, int]) -> PixelData:
    height, width = size
    values = cv2.resize(_values(pixels).astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST)
    name = 'data' if 'data' in pixels else 'sem_seg'
    return PixelData(metainfo=pixels.metainfo, **{name: torch.from_numpy(values.astype(np.int64))[None]})


def _shrunk_instances(instances: InstanceData, size: tuple[int, int], factor: float, score_thr: float) -> InstanceData:
    if 'scores' in instances:
        instances = instances[instances.scores > score_thr]
    small = _on_cpu(instances)
    if 'bboxes' in small:
        small.bboxes = small.bboxes * factor
    if 'masks' in small:
        height, width = size
        masks = [
            cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
            for mask in _boolean_masks(small.masks)
        ]
        small.masks = np.stack(masks) if masks else np.zeros((0, height, width), dtype=bool)
    return small


def _on_cpu(instances: InstanceData) -> InstanceData:
    """A copy on the CPU whose floats have single precision, which is what numpy and the visualizers know."""
    copied = instances.new()
    for name, value in instances.items():
        if hasattr(value, 'gravity_center'):  # boxes of mmdet3d
            copied.set_data({name: value.to('cpu', torch.float32)})
        elif isinstance(tensor := getattr(value, 'tensor', value), Tensor):  # boxes of mmdet have one
            copied.set_data({name: tensor.detach().cpu().float() if tensor.is_floating_point() else tensor.cpu()})
    return copied


def _boolean_masks(masks: Any) -> np.ndarray:
    """``[N, H, W]`` from a tensor or from the mask structures of mmdet."""
    if isinstance(masks, Tensor):
        return masks.cpu().numpy().astype(bool)
    return (masks.to_ndarray() if hasattr(masks, 'to_ndarray') else masks).astype(bool)


def _values(pixels: PixelData) -> np.ndarray:
    """``[H, W]`` of a map of mmseg or mmdet."""
    values = pixels.data if 'data' in pixels else pixels.sem_seg
    return np.asarray(values.cpu() if isinstance(values, Tensor) else values)[0]
