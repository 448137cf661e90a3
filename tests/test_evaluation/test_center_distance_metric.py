from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from tiny_nuscenes import make_nuscenes

from sparsevit_mm.apis import load_config, sparsify_config
from sparsevit_mm.evaluation.center_distance_metric import CenterDistanceMetric, Centers, center_distance_ap
from sparsevit_mm.runs import build_runner


def _centers(images: list[int], places: list[tuple[float, float]], scores: list[float] | None = None) -> Centers:
    return Centers(np.array(images), np.array(places, float).reshape(-1, 2), np.array(scores or [0.0] * len(images)))


def test_all_found_is_one() -> None:
    truth = _centers([0, 0, 1], [(0, 10), (3, 20), (1, 5)])
    assert center_distance_ap(truth, Centers(truth.images, truth.places + 0.3, np.ones(3)), 0.5) == pytest.approx(1)


def test_nothing_found_is_zero() -> None:
    truth = _centers([0], [(0, 10)])
    assert center_distance_ap(truth, _centers([], []), 4.0) == 0
    assert center_distance_ap(truth, _centers([1], [(0, 10)], [0.9]), 4.0) == 0, 'in another image'
    assert center_distance_ap(truth, _centers([0], [(0, 12)], [0.9]), 2.0) == 0, 'the bound itself is too far'


def test_an_object_is_found_once() -> None:
    truth = _centers([0, 0], [(0, 10), (5, 10)])
    found = _centers([0, 0], [(0.1, 10), (0, 10)], [0.9, 0.8])
    # Of the 90 recalls that count, .11 to .49 have precision 1 and .50 has 1/2; the tenth of all precisions is off.
    assert center_distance_ap(truth, found, 1.0) == pytest.approx((39 * 0.9 + 0.4) / (90 * 0.9))


@pytest.mark.parametrize('seed', range(5))
def test_equals_the_devkit(seed: int) -> None:
    algorithm = pytest.importorskip('nuscenes.eval.detection.algo')
    from nuscenes.eval.common.data_classes import EvalBoxes
    from nuscenes.eval.common.utils import center_distance
    from nuscenes.eval.detection.data_classes import DetectionBox

    rng = np.random.default_rng(seed)
    truth = Centers(rng.integers(0, 6, 30), rng.uniform(0, 20, (30, 2)), np.zeros(30))
    places = np.concatenate([truth.places + rng.normal(0, 1, (30, 2)), rng.uniform(0, 20, (25, 2))])
    found = Centers(np.concatenate([truth.images, rng.integers(0, 6, 25)]), places, rng.uniform(0, 1, 55))

    def boxes(centers: Centers) -> EvalBoxes:
        result = EvalBoxes()
        for image in range(6):
            result.add_boxes(str(image), [])
        for image, (x, y), score in zip(centers.images, centers.places, centers.scores):
            box = DetectionBox(str(image), (x, y, 0), (1, 1, 1), detection_name='car', detection_score=float(score))
            result.add_boxes(str(image), [box])
        return result

    for threshold in (0.5, 1.0, 2.0, 4.0):
        data = algorithm.accumulate(boxes(truth), boxes(found), 'car', center_distance, threshold)
        expected = algorithm.calc_ap(data, 0.1, 0.1)
        assert center_distance_ap(truth, found, threshold) == pytest.approx(expected, abs=1e-9)


def _sample(truth: list[list[float]], labels: list[int], found: list[list[float]], found_labels: list[int]) -> dict:
    structures = pytest.importorskip('mmdet3d.structures')

    def boxes(rows: list[list[float]]) -> object:
        values = [[x, 1.5, z, 4, 1.5, 1.6, 0] for x, z in rows]
        return structures.CameraInstance3DBoxes(torch.tensor(values).reshape(-1, 7))

    return dict(
        eval_ann_info=dict(gt_bboxes_3d=boxes(truth), gt_labels_3d=np.array(labels, int)),
        pred_instances_3d=dict(
            bboxes_3d=boxes(found), labels_3d=torch.tensor(found_labels), scores_3d=torch.linspace(0.9, 0.5, len(found))
        ),
    )


def test_metric_over_classes_and_thresholds() -> None:
    metric = CenterDistanceMetric()
    metric.dataset_meta = dict(classes=('car', 'bus', 'train'))
    metric.process({}, [_sample([[0, 10], [0, 80]], [0, 0], [[0.7, 10]], [0]), _sample([[0, 20]], [1], [], [])])
    scores = metric.evaluate(2)
    # The car is 0.7 m off: wrong at .5 m, right at 1, 2 and 4 m; the one at 80 m does not count.
    assert scores == pytest.approx(
        {'center_distance/mAP': 37.5, 'center_distance/car_AP': 75, 'center_distance/bus_AP': 0}
    )


def test_needs_ground_truth_with_the_images() -> None:
    sample = _sample([[0, 10]], [0], [[0, 10]], [0])
    del sample['eval_ann_info']
    with pytest.raises(ValueError, match='no eval_ann_info'):
        CenterDistanceMetric().process({}, [sample])
    metric = CenterDistanceMetric()
    metric.dataset_meta = dict(classes=('car',))
    metric.process({}, [_sample([], [], [[0, 10]], [0])])
    with pytest.raises(ValueError, match='none of the 1 images holds an object'):
        metric.evaluate(1)


@pytest.mark.parametrize('options', [dict(thresholds=()), dict(thresholds=(1, 0)), dict(max_distance=-1)])
def test_rejects_distances(options: dict) -> None:
    with pytest.raises(ValueError, match='distances in metres above 0'):
        CenterDistanceMetric(**options)


def test_ground_of_a_lidar_is_another_plane() -> None:
    structures = pytest.importorskip('mmdet3d.structures')
    boxes = structures.LiDARInstance3DBoxes(torch.tensor([[10.0, 5, 1, 4, 2, 1.5, 0]]))
    beside = structures.LiDARInstance3DBoxes(torch.tensor([[10.0, 8, 1, 4, 2, 1.5, 0]]))
    metric = CenterDistanceMetric(thresholds=(2.0, 4.0))
    metric.dataset_meta = dict(classes=('car',))
    truth = dict(gt_bboxes_3d=boxes, gt_labels_3d=np.array([0]))
    found = dict(bboxes_3d=beside, labels_3d=torch.tensor([0]), scores_3d=torch.tensor([0.9]))
    metric.process({}, [dict(eval_ann_info=truth, pred_instances_3d=found)])
    assert metric.evaluate(1)['center_distance/mAP'] == pytest.approx(50), '3 m to the side'


class TestNuScenes:
    """Data set, model and metric together, on a part of a training set in nuScenes' format."""

    @pytest.fixture
    def runner(self, tmp_path: Path) -> Runner:
        pytest.importorskip('mmdet3d')
        cfg = sparsify_config(load_config(make_nuscenes(tmp_path / 'nuscenes')), 0.5)
        cfg.work_dir = str(tmp_path / 'work')
        cfg.test_dataloader.dataset.ann_file = cfg.train_dataloader.dataset.ann_file
        cfg.test_evaluator = dict(type='sparsevit_mm.CenterDistanceMetric')
        for part in ('dataloader', 'evaluator', 'cfg'):
            cfg.pop(f'train_{part}', None), cfg.pop(f'val_{part}')
        cfg.pop('optim_wrapper'), cfg.pop('param_scheduler')
        return build_runner(cfg)

    def test_scores_a_detector(self, runner: Runner) -> None:
        scores = runner.test()
        assert set(scores) == {f'center_distance/{name}' for name in ('mAP', 'car_AP', 'pedestrian_AP')}
        assert 0 <= scores['center_distance/mAP'] < 50, 'the weights are not trained'

    def test_scores_what_is_right_and_what_is_not(self, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        metainfo = runner.test_loop.dataloader.dataset.metainfo
        shifted = 0.0

        def answer(batch: dict) -> list:
            """The truth, with pedestrians moved away from the camera."""
            for sample in batch['data_samples']:
                truth = sample.eval_ann_info
                labels = torch.as_tensor(truth['gt_labels_3d'])
                boxes = truth['gt_bboxes_3d'].clone()
                boxes.tensor[labels == metainfo['classes'].index('pedestrian'), 2] += shifted
                scores = torch.ones(len(labels))
                sample.pred_instances_3d = InstanceData(bboxes_3d=boxes, labels_3d=labels, scores_3d=scores)
            return batch['data_samples']

        monkeypatch.setattr(runner.model, 'test_step', answer)
        assert runner.test()['center_distance/mAP'] == pytest.approx(100)
        shifted = 1.5
        scores = runner.test()
        assert scores['center_distance/car_AP'] == pytest.approx(100)
        assert scores['center_distance/pedestrian_AP'] == pytest.approx(50), 'right at 2 and 4 m'
