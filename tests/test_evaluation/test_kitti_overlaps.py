import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip('mmcv.ops')

from kitti_scenes import footprints, shared_areas

from sparsevit_mm.evaluation.kitti_overlaps import bev_overlaps, image_overlaps, space_overlaps


def upright(flat: np.ndarray, bottom: float = 1.6, height: float = 1.5) -> np.ndarray:
    """Footprints [N, 5] as boxes [N, 7]."""
    column = np.ones(len(flat))
    x, z, length, width, angle = flat.T
    return np.stack([x, bottom * column, z, length, height * column, width, angle], axis=1)


def test_image_overlaps_are_those_of_known_boxes():
    boxes = np.array([[0.0, 0, 10, 10], [20, 20, 30, 40]])
    others = np.array([[5.0, 0, 15, 10], [100, 100, 110, 110], [20, 20, 30, 30]])
    np.testing.assert_allclose(image_overlaps(boxes, others), [[1 / 3, 0, 0], [0, 0, 0.5]])
    np.testing.assert_allclose(image_overlaps(boxes, others, over_first=True), [[0.5, 0, 0], [0, 0, 0.5]])


def test_bev_overlaps_are_exact_polygon_overlaps():
    boxes, others = footprints(0, 40), footprints(1, 30)
    inter = shared_areas(boxes, others)
    union = (boxes[:, 2] * boxes[:, 3])[:, None] + (others[:, 2] * others[:, 3])[None] - inter
    assert (inter > 0).mean() > 0.3
    np.testing.assert_allclose(bev_overlaps(upright(boxes), upright(others)), inter / union, atol=2e-5)


@pytest.mark.parametrize('difference', [0, 1e-7, 1e-6, 1e-5, 1e-4])
def test_a_box_overlaps_its_own_copy_up_to_the_last_bits(difference):
    boxes = footprints(4, 100)
    copies = boxes + np.random.default_rng(5).normal(size=boxes.shape) * difference
    overlaps = np.diag(bev_overlaps(upright(boxes), upright(copies)))
    assert overlaps.min() > 0.995
    assert overlaps.max() <= 1 + 1e-6


def test_quarter_turns_of_a_square_are_the_square():
    square = np.array([[0.0, 10, 2, 2, 0.3]])
    turned = square + np.array([[0, 0, 0, 0, turn * np.pi / 2] for turn in range(4)])
    np.testing.assert_allclose(bev_overlaps(upright(square), upright(turned)), np.ones((1, 4)), atol=2e-3)


def test_space_overlaps_count_the_height_that_is_shared():
    flat = np.array([[0.0, 10, 4, 2, 0.3]])
    low, high = upright(flat, bottom=1.6, height=1.5), upright(flat, bottom=0.6, height=1.5)
    np.testing.assert_allclose(space_overlaps(low, high), [[0.5 / 2.5]], atol=1e-3)
    assert space_overlaps(low, upright(flat, bottom=-5)) == 0


def test_boxes_without_a_shape_overlap_nothing():
    boxes = upright(footprints(6, 3))
    broken = boxes.copy()
    broken[0], broken[1, 3:6], broken[2, 3:6] = np.nan, 0, np.inf
    assert not np.nan_to_num(space_overlaps(broken, boxes)).any()
    assert bev_overlaps(boxes[:0], boxes).shape == (0, 3)
    assert image_overlaps(np.zeros((0, 4)), np.zeros((2, 4))).shape == (0, 2)


def test_the_package_imports_without_mmcv_ops_and_mmdet3d():
    program = "import sys; sys.modules.update({'mmcv.ops': None, 'mmdet3d': None}); import sparsevit_mm.evaluation"
    subprocess.run([sys.executable, '-c', program], check=True)
