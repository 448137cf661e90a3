import numpy as np
import pytest

from sparsevit_mm.visualization import MapChange, Objects, draw_change, match_objects
from sparsevit_mm.visualization.draw_change import change_legend

PHOTO = np.full((80, 120, 3), 128, np.uint8)
ORANGE, BLUE, VERMILION = (0xE6, 0x9F, 0x00), (0x56, 0xB4, 0xE9), (0xD5, 0x5E, 0x00)


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.abs(picture.astype(int) - colour) < 30).all(-1)


def test_pixels_that_change_class_have_one_colour() -> None:
    changed = np.zeros((80, 120), bool)
    changed[:, 60:] = True
    picture = draw_change(PHOTO, MapChange(changed))
    assert near(picture, VERMILION)[:, 60:].all() and not near(picture, VERMILION)[:, :60].any()
    assert picture.shape == PHOTO.shape


def test_a_thin_line_is_not_lost_in_a_smaller_picture() -> None:
    changed = np.zeros((800, 1200), bool)
    changed[:, 600] = True
    picture = draw_change(np.full((800, 1200, 3), 128, np.uint8), MapChange(changed), longest=300)
    assert picture.shape == (200, 300, 3)
    red = picture[..., 0].astype(int) - picture[..., 2]
    assert (red[:, 149:152].max(1) > 50).all() and red[:, :140].max() < 5


def objects(*boxes: tuple[int, ...], masks: bool = False, scale: int = 1) -> Objects:
    count = len(boxes)
    held = np.zeros((count, 80 * scale, 120 * scale), bool)
    for mask, (left, top, right, bottom) in zip(held, boxes):
        mask[top:bottom, left:right] = True
    return Objects(
        np.zeros(count, int), np.ones(count), np.array(boxes, float).reshape(-1, 4), masks=held if masks else None
    )


@pytest.mark.parametrize('masks', [False, True], ids=['boxes', 'masks'])
def test_what_vanishes_and_appears_is_outlined_in_its_place(masks: bool) -> None:
    before = objects((10, 10, 40, 40), (10, 50, 40, 70), masks=masks)
    after = objects((10, 50, 40, 70), (80, 10, 110, 40), masks=masks)
    picture = draw_change(PHOTO, match_objects(before, after))
    assert picture.shape == PHOTO.shape
    orange, blue, white = (near(picture, colour) for colour in (ORANGE, BLUE, (255, 255, 255)))
    assert orange[8:43, 8:43].any() and not orange[45:].any() and not orange[:, 60:].any()
    assert blue[8:43, 78:113].any() and not blue[:, :60].any()
    assert white[48:72, 8:43].any() and not white[:45].any()
    assert orange.sum() < 0.8 * blue.sum()  # dashed


def test_outlines_are_at_their_places_in_a_smaller_picture() -> None:
    photo = np.full((800, 1200, 3), 128, np.uint8)
    before = objects((100, 100, 400, 400), masks=True, scale=10)
    picture = draw_change(photo, match_objects(before, objects(masks=True, scale=10)), longest=120)
    rows, columns = np.nonzero(near(picture, ORANGE))
    assert picture.shape == PHOTO.shape and abs(rows.min() - 10) <= 2 and abs(columns.max() - 40) <= 2


def test_centers() -> None:
    before = Objects(np.zeros(1, int), np.ones(1), centers=np.array([[30.0, 40.0]]))
    after = Objects(np.zeros(0, int), np.ones(0), centers=np.zeros((0, 2)))
    rows, columns = np.nonzero(near(draw_change(PHOTO, match_objects(before, after)), ORANGE))
    assert abs(rows.mean() - 40) < 4 and abs(columns.mean() - 30) < 2


def test_legend_names_every_mark() -> None:
    change = match_objects(objects((10, 10, 40, 40)), objects())
    assert [entry.get_label() for entry in change_legend(change)] == [
        'in both predictions',
        'vanishes: dense only',
        'appears: sparse only',
    ]
    assert len(change_legend(MapChange(np.zeros((2, 2), bool)))) == 1


def test_marks_of_centers_differ_in_shape_and_stand_in_the_legend() -> None:
    one, none = (Objects(np.zeros(n, int), np.ones(n), centers=np.full((n, 2), 40.0)) for n in (1, 0))
    shapes = [entry.get_marker() for entry in change_legend(match_objects(one, none))]
    assert len(set(shapes)) == 3
    marks = [(draw_change(PHOTO, match_objects(*pair)) != draw_change(PHOTO, match_objects(none, none))).any(-1)
             for pair in ((one, none), (none, one))]  # fmt: skip
    assert marks[0].any() and marks[1].any() and (marks[0] != marks[1]).any()
