import numpy as np
import pytest

from sparsevit_mm.visualization import Objects, compare_maps, match_objects
from sparsevit_mm.visualization.differences import box_overlaps, mask_overlaps


def objects(*boxes: tuple[float, ...], labels: list[int] | None = None, scores: list[float] | None = None, **fields):
    count = len(boxes)
    return Objects(
        labels=np.array(labels or [0] * count, dtype=int),
        scores=np.array(scores or [0.9] * count),
        boxes=np.array(boxes, dtype=float).reshape(-1, 4),
        **fields,
    )


def test_pixels_that_change_class() -> None:
    before = np.zeros((4, 5), int)
    after = before.copy()
    after[0] = 3
    change = compare_maps(before, after)
    assert change.share == 0.25 and change.changed[0].all() and not change.changed[1:].any()
    assert change.caption == '25.0% of pixels change class'
    with pytest.raises(ValueError, match='one size'):
        compare_maps(before, after[:2])


def test_overlaps_of_boxes() -> None:
    first = np.array([[0, 0, 10, 10], [0, 0, 0, 0]], float)
    second = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], float)
    assert box_overlaps(first, second) == pytest.approx(np.array([[1, 1 / 3, 0], [0, 0, 0]]))


def test_overlaps_of_masks_of_any_size() -> None:
    for side in (20, 1200):
        first, second = np.zeros((1, side, side), bool), np.zeros((2, side, side), bool)
        first[0, : side // 2] = True
        second[0, :, : side // 2] = True
        assert mask_overlaps(first, second) == pytest.approx(np.array([[1 / 3, 0]]), abs=0.01)


def test_kept_vanished_and_appeared() -> None:
    before = objects((0, 0, 10, 10), (50, 50, 60, 60))
    after = objects((100, 100, 110, 110), (1, 0, 11, 10))
    change = match_objects(before, after)
    assert (change.kept, change.vanished, change.appeared) == (((0, 1),), (1,), (0,))
    assert change.caption == '1 kept, 1 vanish, 1 appear'


def test_an_object_of_another_class_is_another_object() -> None:
    change = match_objects(objects((0, 0, 10, 10), labels=[1]), objects((0, 0, 10, 10), labels=[2]))
    assert not change.kept and change.vanished == (0,) and change.appeared == (0,)


def test_the_highest_score_chooses_first_and_each_is_taken_once() -> None:
    before = objects((0, 0, 10, 10), (2, 0, 12, 10), scores=[0.5, 0.9])
    change = match_objects(before, objects((1, 0, 11, 10)))
    assert change.kept == ((1, 0),) and change.vanished == (0,)
    exact = match_objects(before, objects((0, 0, 10, 10), (2, 0, 12, 10)))
    assert sorted(exact.kept) == [(0, 0), (1, 1)]  # what overlaps most


def test_least_overlap() -> None:
    before, after = objects((0, 0, 10, 10)), objects((5, 0, 15, 10))
    assert match_objects(before, after, iou_thr=0.3).kept and not match_objects(before, after, iou_thr=0.4).kept


def test_masks_decide_where_there_are_masks() -> None:
    box, mask = (0, 0, 10, 10), np.zeros((1, 10, 10), bool)
    left, right = mask.copy(), mask.copy()
    left[..., :5], right[..., 5:] = True, True
    assert not match_objects(objects(box, masks=left), objects(box, masks=right)).kept
    assert match_objects(objects(box, masks=left), objects((0, 0, 0, 0), masks=left)).kept


def test_centers_are_matched_by_distance() -> None:
    def at(*places: tuple[float, float]) -> Objects:
        count = len(places)
        return Objects(np.zeros(count, int), np.ones(count), centers=np.array(places, float).reshape(-1, 2))

    change = match_objects(at((0, 0), (50, 50)), at((3, 4), (80, 50)), distance=5)
    assert change.kept == ((0, 0),) and change.vanished == (1,) and change.appeared == (1,)
    assert not match_objects(at((0, 0)), at((3, 4)), distance=4.9).kept


def test_nothing_found() -> None:
    one, none = objects((0, 0, 10, 10)), objects()
    assert match_objects(one, none).vanished == (0,) and match_objects(none, one).appeared == (0,)
    assert match_objects(none, none).caption == '0 kept, 0 vanish, 0 appear'
    masked, empty = objects((0, 0, 9, 9), masks=np.ones((1, 9, 9), bool)), objects(masks=np.zeros((0, 9, 9), bool))
    assert match_objects(masked, empty).vanished == (0,) and match_objects(empty, masked).appeared == (0,)
    assert not match_objects(empty, empty).kept
