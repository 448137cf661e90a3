import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip('mmcv.ops')
pytest.importorskip('mmdet3d')

from kitti_scenes import CENTRE, CLASSES, FOCAL, draw_scenes, exact_rotate_iou
from mmdet3d.evaluation import KittiMetric
from mmdet3d.structures import CameraInstance3DBoxes, LiDARInstance3DBoxes

from sparsevit_mm.evaluation import KittiMonoMetric
from sparsevit_mm.registry import METRICS

LABELS = {'Pedestrian': 0, 'Cyclist': 1, 'Car': 2, 'Van': 3, 'Truck': 4, 'Person_sitting': 5, 'DontCare': -1}


@pytest.fixture
def scenes() -> tuple[list[dict], list[dict]]:
    return draw_scenes(seed=1, num_images=30, objects=9)


@pytest.fixture
def ann_file(tmp_path, scenes) -> str:
    """The ground truth as an info file; image i is 0000ii.png."""
    camera = dict(
        cam2img=[[FOCAL, 0, CENTRE[0], 0], [0, FOCAL, CENTRE[1], 0], [0, 0, 1, 0], [0, 0, 0, 1]],
        lidar2cam=[[0, -1, 0, 0], [0, 0, -1, -0.1], [1, 0, 0, -0.3], [0, 0, 0, 1]],
        height=375,
        width=1242,
    )
    entries = [
        dict(sample_idx=i, images={'CAM2': camera | dict(img_path=f'{i:06d}.png')}, instances=instances(truth))
        for i, truth in enumerate(scenes[0])
    ]
    path = tmp_path / 'infos.json'
    path.write_text(json.dumps(dict(metainfo=dict(categories=LABELS), data_list=entries)))
    return str(path)


def instances(truth: dict) -> list[dict]:
    boxes = np.concatenate([truth['location'], truth['dimensions'], truth['rotation_y'][:, None]], axis=1)
    return [
        dict(
            bbox_label=LABELS[str(truth['name'][i])],
            truncated=float(truth['truncated'][i]),
            occluded=int(truth['occluded'][i]),
            alpha=float(truth['alpha'][i]),
            bbox=truth['bbox'][i].tolist(),
            bbox_3d=boxes[i].tolist(),
            score=0.0,
        )
        for i in range(len(boxes))
    ]


def samples(found: list[dict]) -> list[dict]:
    """Detections as a mono-3D model gives them."""
    return [sample(i, **anno) for i, anno in enumerate(found)]


def sample(index: int, name, location, dimensions, rotation_y, score=None, **rest) -> dict:
    boxes = np.concatenate([location, dimensions, rotation_y[:, None]], axis=1)
    predictions = dict(
        bboxes_3d=CameraInstance3DBoxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 7)),
        labels_3d=torch.tensor([CLASSES.index(n) for n in name], dtype=torch.long),
        scores_3d=torch.ones(len(boxes)) if score is None else torch.tensor(score, dtype=torch.float32),
    )
    return dict(
        img_path=f'data/kitti/training/image_2/{index:06d}.png',
        sample_idx=index,
        pred_instances_3d=predictions,
        pred_instances={},
    )


def evaluate(metric: KittiMetric | KittiMonoMetric, predictions: list[dict], classes=CLASSES) -> dict[str, float]:
    metric.dataset_meta = dict(classes=classes)
    metric.process({}, predictions)
    return metric.evaluate(len(predictions))


@pytest.mark.slow
def test_results_and_their_names_are_those_of_mmdet3ds_metric(ann_file, scenes, monkeypatch):
    kernels = SimpleNamespace(rotate_iou_gpu_eval=exact_rotate_iou)  # the module does not import without CUDA
    monkeypatch.setitem(sys.modules, 'mmdet3d.evaluation.functional.kitti_utils.rotate_iou', kernels)
    expected = evaluate(KittiMetric(ann_file), samples(scenes[1]))
    ours = METRICS.build(dict(type='sparsevit_mm.KittiMonoMetric', ann_file=ann_file, metric='bbox'))
    results = evaluate(ours, samples(scenes[1]))
    assert len(expected) == 126
    assert sum(ap > 1 for name, ap in expected.items() if '3D' in name) > 10
    assert {name: results[name.removeprefix('Kitti metric/')] for name in expected} == pytest.approx(expected, abs=1e-3)


def test_a_part_of_the_images_in_any_order_is_looked_up_by_name(ann_file, scenes):
    part = [17, 3, 8, 22]
    predictions = samples(scenes[1])
    results = evaluate(KittiMonoMetric(ann_file), [predictions[i] | dict(sample_idx=k) for k, i in enumerate(part)])

    from sparsevit_mm.evaluation.kitti_ap import kitti_average_precision

    expected = kitti_average_precision([scenes[0][i] for i in part], [scenes[1][i] for i in part], CLASSES)
    assert expected['Overall_3D_AP40_hard_loose'] > 1
    for name in (f'{c}_3D_AP40_hard_loose' for c in (*CLASSES, 'Overall')):
        assert results[f'pred_instances_3d/KITTI/{name}'] == pytest.approx(expected[name], abs=1e-3)


def test_ground_truth_as_detections_is_found_whole(ann_file, scenes):
    perfect = []
    for truth in scenes[0]:
        kept = np.isin(truth['name'], CLASSES)
        perfect.append({key: value[kept] for key, value in truth.items()})
    results = evaluate(KittiMonoMetric(ann_file, prefix='mono'), samples(perfect))
    for name in CLASSES:
        counted = sum(
            int(((t['name'] == name) & (t['occluded'] <= 2) & (t['truncated'] <= 0.5)).sum()) for t in scenes[0]
        )
        assert results[f'mono/{name}_3D_AP40_hard_strict'] == pytest.approx(min(counted - 1, 40) / 40 * 100, abs=8)
        assert counted > 20


def test_images_without_detections_and_one_class(ann_file, scenes):
    empty = [{key: value[:0] for key, value in anno.items()} for anno in scenes[1]]
    nothing = evaluate(KittiMonoMetric(ann_file), samples(empty))
    assert set(nothing.values()) == {0.0}

    whole = evaluate(KittiMonoMetric(ann_file), samples(scenes[1]))
    cars = evaluate(KittiMonoMetric(ann_file, classes=['Car']), samples(scenes[1]))
    assert not any('Cyclist' in name for name in cars)
    key = 'pred_instances_3d/KITTI/Car_3D_AP40_moderate_loose'
    assert cars[key] == whole[key] == cars['pred_instances_3d/KITTI/Overall_3D_AP40_moderate_loose'] > 0

    first_empty = samples([empty[0], *scenes[1][1:]])
    assert evaluate(KittiMonoMetric(ann_file), first_empty)[key] > 0


def test_boxes_in_the_image_alone(ann_file, scenes):
    results = evaluate(KittiMonoMetric(ann_file, metric='img_bbox'), samples(scenes[1]))
    assert {name.split('/Car_')[1].split('_AP')[0] for name in results if 'Car' in name} == {'2D', 'AOS'}


def test_mistakes_are_named(ann_file, scenes):
    with pytest.raises(ValueError, match="metric must be one of 'bbox', 'img_bbox', got 'mAP'"):
        KittiMonoMetric(ann_file, metric='mAP')
    with pytest.raises(ValueError, match="classes has 'Van', but KITTI evaluates Car, Pedestrian, Cyclist alone"):
        KittiMonoMetric(ann_file, classes=['Van'])
    with pytest.raises(ValueError, match=r'image 000099.png was evaluated, but ann_file .*infos.json has no entry'):
        evaluate(KittiMonoMetric(ann_file), [samples(scenes[1])[0] | dict(img_path='000099.png')])
    with pytest.raises(ValueError, match=r'img_path=None\. Leave img_path in meta_keys of Pack3DDetInputs'):
        evaluate(KittiMonoMetric(ann_file), [samples(scenes[1])[0] | dict(img_path=None)])
    with pytest.raises(ValueError, match=r"got classes \['Bus'\], none to evaluate"):
        evaluate(KittiMonoMetric(ann_file), samples(scenes[1]), classes=['Bus'])
    with pytest.raises(ValueError, match=r"default_cam_key is 'CAM_2', but ann_file .* has images of CAM2"):
        evaluate(KittiMonoMetric(ann_file, default_cam_key='CAM_2'), samples(scenes[1]))
    with pytest.raises(ValueError, match='got no images; it needs results'):
        evaluate(KittiMonoMetric(ann_file), [])


@pytest.mark.data
def test_mmdet3ds_published_result_on_a_real_frame(data_root):
    """The box and the value of mmdet3d's tests/test_evaluation/test_metrics/test_kitti_metric.py."""
    metric = KittiMonoMetric(str(data_root / 'kitti_mini/kitti_infos_train_mono3d.json'))
    boxes = torch.tensor([[8.7314, -1.8559, -1.5997, 0.4800, 1.2000, 1.8900, 0.0100]])
    predictions = dict(
        bboxes_3d=LiDARInstance3DBoxes(boxes), scores_3d=torch.tensor([0.9]), labels_3d=torch.tensor([0])
    )
    results = evaluate(metric, [dict(img_path='000000.png', sample_idx=0, pred_instances_3d=predictions)])
    for level in ('easy', 'moderate', 'hard'):
        name = f'pred_instances_3d/KITTI/Overall_3D_AP11_{level}'
        assert results[name] == pytest.approx(3.0303, abs=1e-4)


@pytest.mark.data
def test_real_ground_truth_as_the_data_set_gives_it_is_found(data_root):
    from mmdet3d.datasets import KittiDataset

    root = data_root / 'kitti_mini'
    options = dict(modality=dict(use_lidar=False, use_camera=True), load_type='fov_image_based', box_type_3d='Camera')
    data = KittiDataset(str(root), 'kitti_infos_train_mono3d.json', test_mode=True, **options)
    predictions = []
    for i in range(len(data)):
        info = data.get_data_info(i)
        truth = info['eval_ann_info']
        labels = torch.tensor(truth['gt_labels_3d'])
        kept = (labels >= 0) & (labels < 3)
        found = dict(bboxes_3d=truth['gt_bboxes_3d'][kept], labels_3d=labels[kept], scores_3d=torch.ones(sum(kept)))
        predictions.append(dict(img_path=info['images']['CAM2']['img_path'], pred_instances_3d=found))
    results = evaluate(KittiMonoMetric(str(root / 'kitti_infos_train_mono3d.json')), predictions)
    # Of 36 cars that count as hard, all found, each but the first adds a fortieth.
    assert results['pred_instances_3d/KITTI/Car_3D_AP40_hard_strict'] == pytest.approx(35 / 40 * 100)
    assert results['pred_instances_3d/KITTI/Car_AOS_AP40_hard'] == pytest.approx(87.5, abs=0.01)
