import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmcv.ops')

from kitti_scenes import CLASSES, draw_scenes, footprints

from sparsevit_mm.evaluation.kitti_ap import KINDS, kitti_average_precision
from sparsevit_mm.evaluation.kitti_overlaps import bev_overlaps

SCENES = [dict(seed=11, num_images=6, objects=7, noise=0.3), dict(seed=1, num_images=60, objects=9)]


@pytest.fixture(scope='module')
def mmdet3d_results() -> list:
    """What mmdet3d's own code says: overlaps of footprints, then the AP of every set of scenes."""
    pytest.importorskip('mmdet3d')
    pytest.importorskip('shapely')
    program = Path(__file__).with_name('kitti_scenes.py')
    run = subprocess.run(
        [sys.executable, program, json.dumps(SCENES)],
        env=os.environ | {'NUMBA_ENABLE_CUDASIM': '1', 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.split('RESULT')[1])


@pytest.mark.slow
def test_overlaps_equal_those_of_the_simulated_cuda_kernel(mmdet3d_results):
    boxes, others = (np.insert(footprints(seed, 8), [1, 3], [1.6, 1.5], axis=1) for seed in (2, 3))
    assert (np.array(mmdet3d_results[0]) > 0).mean() > 0.3
    np.testing.assert_allclose(bev_overlaps(boxes, others), mmdet3d_results[0], atol=5e-5)


@pytest.mark.slow
@pytest.mark.parametrize('index', range(len(SCENES)), ids=['cuda-simulator', 'exact-overlaps'])
def test_average_precision_equals_mmdet3d(mmdet3d_results, index):
    expected = dict(mmdet3d_results[index + 1])
    orientation = expected.pop('aos')
    results = kitti_average_precision(*draw_scenes(**SCENES[index]), CLASSES)
    assert len(expected) == 126
    assert sum(ap > 1 for name, ap in expected.items() if '3D' in name) > 5
    for name, ap in expected.items():
        assert results[name.removeprefix('KITTI/')] == pytest.approx(ap, abs=1e-9), name
    levels = ('easy', 'moderate', 'hard')
    ours = [[results[f'{name}_AOS_AP40_{level}'] for level in levels] for name in CLASSES]
    np.testing.assert_allclose(ours, orientation, atol=1e-9)


def test_average_precision_of_mmdet3ds_published_example():
    """The boxes and values of mmdet3d's tests/test_evaluation/test_functional/test_kitti_eval.py."""
    boxes = [[674.9179, 165.48549, 693.23694, 193.42134], [676.21954, 165.70988, 691.63745, 193.83748]]
    boxes += [[389.4093, 182.48041, 421.49072, 202.13422], [232.0577, 186.16724, 301.94623, 217.4024]]
    boxes += [[758.6537, 172.98509, 816.32434, 212.76743]]
    regions = [[532.37, 176.35, 542.68, 185.27], [559.62, 175.83, 575.4, 183.15]]
    names = ['Pedestrian', 'Cyclist', 'Car', 'Car', 'Car']
    far = dict(dimensions=np.ones((7, 3)), location=np.full((7, 3), -1000.0), rotation_y=np.zeros(7))
    truth = far | dict(
        name=np.array([*names, 'DontCare', 'DontCare']),
        truncated=np.array([0, 0, 0, -1, -1, -1, -1]),
        occluded=np.array([0, 0, 3, -1, -1, -1, -1]),
        alpha=np.array([-1.57, 1.85, -1.65, -10, -10, -10, -10]),
        bbox=np.array(boxes + regions),
    )
    found = {key: value[:5] for key, value in far.items()} | dict(
        name=np.array(names),
        alpha=np.array([1.0744612, 1.2775835, 1.82563, 2.1145396, -1.7676563]),
        bbox=np.array(boxes),
        score=np.array([0.18151495, 0.57920843, 0.27795696, 0.23100418, 0.21541929]),
    )
    results = kitti_average_precision([truth], [found], CLASSES, ['2D', 'AOS'])
    assert results['Overall_2D_AP11_moderate'] == pytest.approx(9.090909090909092)
    assert results['Overall_2D_AP40_hard'] == pytest.approx(0.8333333333333334)
    assert results['Pedestrian_AOS_AP11_moderate'] == pytest.approx(0.55020816)
    assert results['Cyclist_AOS_AP11_hard'] == pytest.approx(8.36633862)
    assert results['Car_AOS_AP40_moderate'] == pytest.approx(1.58140643)
    assert results['Car_2D_AP11_easy_strict'] == 0


def cars(count: int, score: float = 0.9) -> dict[str, np.ndarray]:
    """Cars side by side, all of them in full view."""
    left = 100.0 * np.arange(count)
    place = np.stack([4.0 * np.arange(count), np.full(count, 1.6), np.full(count, 15.0)], axis=1)
    return dict(
        name=np.array(['Car'] * count, dtype=object),
        truncated=np.zeros(count),
        occluded=np.zeros(count),
        alpha=np.zeros(count),
        bbox=np.stack([left, np.full(count, 150.0), left + 90, np.full(count, 210.0)], axis=1),
        dimensions=np.tile([3.9, 1.5, 1.6], (count, 1)),
        location=place,
        rotation_y=np.full(count, 0.4),
        score=np.full(count, score),
    )


def test_perfect_detections_of_ten_and_of_fifty_objects():
    few = kitti_average_precision([cars(10)], [cars(10)], ['Car'])
    many = kitti_average_precision([cars(50)], [cars(50)], ['Car'])
    for kind in KINDS:
        assert few[f'Overall_{kind}_AP40_easy'] == pytest.approx(22.5)
        assert many[f'Overall_{kind}_AP40_easy'] == many[f'Overall_{kind}_AP11_hard'] == pytest.approx(100)
        bounds = () if kind == 'AOS' else ('_strict', '_loose')
        assert [few[f'Car_{kind}_AP40_easy{bound}'] for bound in bounds] == pytest.approx([22.5] * len(bounds))


def test_no_detections_and_no_ground_truth_are_zero():
    assert set(kitti_average_precision([cars(3)], [cars(0)], CLASSES).values()) == {0.0}
    assert set(kitti_average_precision([cars(0)], [cars(3)], CLASSES).values()) == {0.0}
    assert set(kitti_average_precision([cars(0)], [cars(0)], ['Car']).values()) == {0.0}


def test_detections_in_an_image_without_ground_truth_are_false():
    alone = kitti_average_precision([cars(10)], [cars(10)], ['Car'])
    beside = kitti_average_precision([cars(10), cars(0)], [cars(10), cars(10)], ['Car'])
    assert beside['Car_3D_AP40_easy_strict'] == pytest.approx(alone['Car_3D_AP40_easy_strict'] / 2)


@pytest.mark.parametrize(
    'name, height, expected', [('Car', 60, 22.5), ('Van', 60, 20), ('Truck', 60, 18), ('Car', 30, 20)]
)
def test_neighbouring_classes_and_small_objects_are_ignored(name, height, expected):
    """A found van or small car is neither right nor wrong; a truck taken for a car is wrong."""
    truth = cars(10)
    truth['name'][0] = name
    truth['bbox'][0, 3] = truth['bbox'][0, 1] + height
    results = kitti_average_precision([truth], [cars(10) | {'bbox': truth['bbox']}], ['Car'])
    assert results['Car_3D_AP40_easy_strict'] == pytest.approx(expected)


def test_detections_in_a_dontcare_region_are_not_false_in_the_image_alone():
    truth = cars(11)
    truth['name'][10] = 'DontCare'
    truth['location'][10] = -1000
    results = kitti_average_precision([truth], [cars(11)], ['Car'])
    assert results['Car_2D_AP40_easy_strict'] == pytest.approx(22.5)
    assert results['Car_3D_AP40_easy_strict'] == pytest.approx(22.5 * 10 / 11)
