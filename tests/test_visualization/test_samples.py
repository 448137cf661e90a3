import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData

from sparsevit_mm.visualization import class_map, has_truth, objects_of
from sparsevit_mm.visualization.samples import in_image, shrink_sample


def detections(scores: list[float], dtype: torch.dtype = torch.float32, **fields) -> InstanceData:
    count = len(scores)
    boxes = torch.tensor([[4.0 * i, 8, 4 * i + 8, 24] for i in range(count)], dtype=dtype).reshape(-1, 4)
    return InstanceData(
        bboxes=boxes, scores=torch.tensor(scores, dtype=dtype), labels=torch.arange(count), **fields
    )  # fmt: skip


def mono3d(sure: list[float], meta: dict | None = None, **fields):
    structures = pytest.importorskip('mmdet3d.structures')
    count = len(sure)
    boxes = torch.tensor([[1.0, 1.0, 10.0, 4.0, 2.0, 2.0, 0.0]]).repeat(count, 1)
    found = InstanceData(
        bboxes_3d=structures.CameraInstance3DBoxes(boxes),
        scores_3d=torch.tensor(sure),
        labels_3d=torch.arange(count),
    )
    camera = [[100.0, 0, 50, 0], [0, 100, 30, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    sample = structures.Det3DDataSample(metainfo=dict(cam2img=camera, scale_factor=1.0) | (meta or {}))
    sample.pred_instances_3d = found
    sample.pred_instances = InstanceData(**fields)
    return sample


def test_objects_above_a_score() -> None:
    structures = pytest.importorskip('mmdet.structures')
    masks = torch.zeros(3, 32, 32, dtype=torch.bool)
    masks[0, :4] = True
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        sample = structures.DetDataSample(pred_instances=detections([0.9, 0.2, 0.5], dtype, masks=masks))
        found = objects_of(sample, 0.3)
        assert found.labels.tolist() == [0, 2] and found.boxes.tolist() == [[0, 8, 8, 24], [8, 8, 16, 24]]
        assert found.masks.shape == (2, 32, 32) and found.masks[0].sum() == 4 * 32
    assert len(objects_of(sample, 0.95)) == 0
    assert objects_of(structures.DetDataSample(), 0.3) is None


def test_objects_of_3d_detectors_are_boxes_in_the_image_or_centers() -> None:
    flat = dict(bboxes=torch.tensor([[1.0, 2, 3, 4]]), scores=torch.tensor([0.8]), labels=torch.tensor([1]))
    found = objects_of(mono3d([0.8], **flat), 0.3)
    assert found.boxes.tolist() == [[1, 2, 3, 4]] and found.centers is None
    # x 1 m to the right at 10 m with a focal length of 100 is 10 pixels beside the middle.
    for sample in (mono3d([0.8, 0.1]), mono3d([0.8, 0.1], dict(scale_factor=(0.5, 0.5)), **flat)):
        found = objects_of(sample, 0.3)
        assert found.boxes is None and found.labels.tolist() == [0]
        assert found.centers.tolist() == [[60, pytest.approx(30)]]


def test_boxes_in_the_image_as_a_sample_of_mmdet() -> None:
    flat = dict(bboxes=torch.tensor([[1.0, 2, 3, 4]]), scores=torch.tensor([0.8]), labels=torch.tensor([1]))
    sample = in_image(mono3d([0.8], **flat))
    assert type(sample).__name__ == 'DetDataSample' and sample.pred_instances.bboxes.tolist() == [[1, 2, 3, 4]]
    assert in_image(sample) is sample


def test_maps_of_classes_of_both_packages() -> None:
    values = torch.tensor([[[0, 1], [2, 1]]])
    segmentation = pytest.importorskip('mmseg.structures').SegDataSample(pred_sem_seg=PixelData(data=values))
    assert class_map(segmentation).tolist() == [[0, 1], [2, 1]]
    assert class_map(segmentation, truth=True) is None and objects_of(segmentation, 0.3) is None
    structures = pytest.importorskip('mmdet.structures')
    panoptic = structures.DetDataSample(pred_panoptic_seg=PixelData(sem_seg=values + 3000))
    assert class_map(panoptic).tolist() == [[0, 1], [2, 1]]
    assert class_map(structures.DetDataSample()) is None


def test_which_samples_have_labels() -> None:
    structures = pytest.importorskip('mmdet.structures')
    assert not has_truth(structures.DetDataSample())
    assert not has_truth(structures.DetDataSample(gt_instances=InstanceData()))  # annotations were not loaded
    assert has_truth(structures.DetDataSample(gt_instances=InstanceData(bboxes=torch.zeros(0, 4))))
    aside = mono3d([0.8])
    assert not has_truth(aside)
    aside.eval_ann_info = None
    assert not has_truth(aside)
    aside.eval_ann_info = dict(gt_bboxes_3d=aside.pred_instances_3d.bboxes_3d, gt_labels_3d=np.zeros(1, int))
    assert has_truth(aside)


def test_shrunk_sample_fits_the_smaller_image() -> None:
    structures = pytest.importorskip('mmdet.structures')
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    masks = np.zeros((1, 32, 64), np.uint8)
    masks[0, :16, :32] = 1
    truth = InstanceData(
        bboxes=HorizontalBoxes(torch.tensor([[0.0, 0, 32, 16]])),
        masks=BitmapMasks(masks, 32, 64),
        labels=torch.tensor([0]),
    )
    sample = structures.DetDataSample(pred_instances=detections([0.9, 0.1], torch.bfloat16), gt_instances=truth)
    small = shrink_sample(sample, (16, 32), 0.5, 0.3)
    assert small.pred_instances.bboxes.tolist() == [[0, 4, 4, 12]]
    assert small.pred_instances.scores.dtype == torch.float32
    assert small.gt_instances.bboxes.tolist() == [[0, 0, 16, 8]]
    assert small.gt_instances.masks.shape == (1, 16, 32) and small.gt_instances.masks.sum() == 8 * 16
    assert len(sample.pred_instances) == 2 and sample.pred_instances.bboxes.dtype == torch.bfloat16
    assert sample.gt_instances.bboxes.tensor.tolist() == [[0, 0, 32, 16]]


def test_shrunk_sample_of_a_3d_detector_has_a_smaller_camera() -> None:
    sample = mono3d([0.8])
    sample.eval_ann_info = dict(gt_bboxes_3d=sample.pred_instances_3d.bboxes_3d, gt_labels_3d=np.zeros(1, int))
    small = shrink_sample(sample, (15, 25), 0.5, 0.3)
    assert small.cam2img[0].tolist() == [50, 0, 25, 0] and small.cam2img[1].tolist() == [0, 50, 15, 0]
    assert small.cam2img[2].tolist() == [0, 0, 1, 0]
    assert len(small.gt_instances_3d) == len(small.pred_instances_3d) == 1
    assert sample.cam2img[0][0] == 100


def test_shrunk_map_has_no_classes_of_its_own() -> None:
    values = torch.zeros(1, 40, 40, dtype=torch.long)
    values[:, 20:] = 200
    sample = pytest.importorskip('mmseg.structures').SegDataSample(
        pred_sem_seg=PixelData(data=values), seg_logits=PixelData(data=torch.rand(3, 40, 40))
    )
    small = shrink_sample(sample, (13, 13), 13 / 40, 0.3)
    assert small.pred_sem_seg.data.shape == (1, 13, 13) and set(small.pred_sem_seg.data.unique().tolist()) == {0, 200}
    assert 'seg_logits' not in small
