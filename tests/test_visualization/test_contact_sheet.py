from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from seen_images import BLUE, GREEN, RED, area, seen_image

from sparsevit_mm.visualization import (
    MapChange,
    Objects,
    SheetRow,
    draw_contact_sheet,
    make_contact_sheet,
    match_objects,
)
from sparsevit_mm.visualization import contact_sheet as module


def panel(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what has a colour."""
    rows, columns = np.nonzero((np.abs(picture.astype(int) - colour) < 12).all(-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_a_row_holds_image_heat_map_both_predictions_and_the_change() -> None:
    sheet = draw_contact_sheet([SheetRow.of(seen_image())], 'heading')
    boxes = [panel(sheet, colour) for colour in (RED, BLUE, GREEN)]
    lefts = [box[0] for box in boxes]
    width = boxes[0][2] - boxes[0][0]
    assert lefts == sorted(lefts) and all(box[3] - box[1] == pytest.approx(width * 60 / 90, abs=3) for box in boxes)
    assert (lefts[1] - lefts[0]) / width == pytest.approx(2.06, abs=0.06)  # the heat map is in between
    heat = sheet[boxes[0][1] + 5 : boxes[0][3] - 5, boxes[0][2] + 15 : lefts[1] - 15].astype(int)
    middle = heat.shape[1] // 2
    assert np.abs(heat[:, : middle - 20].mean((0, 1)) - heat[:, middle + 20 :].mean((0, 1))).max() > 40


def test_every_image_adds_a_row_at_its_own_aspect() -> None:
    rows = [SheetRow.of(seen_image()), SheetRow.of(seen_image(height=90, width=60)), SheetRow.of(seen_image())]
    one, three = draw_contact_sheet(rows[:1], 'heading'), draw_contact_sheet(rows, 'heading')
    assert one.shape[1] == three.shape[1]
    assert area(three, RED) / area(one, RED) == pytest.approx(1 + 1 + (90 / 60) ** 2, rel=0.03)


def test_nothing_is_cut_off_and_text_is_there() -> None:
    classes = {f'a class with a long name {i}': (10 * i, 0, 0) for i in range(20)}
    heading = 'a name\n' + 'SparseSwin at sparsity ' + ', '.join(f'stage{i}.pair1 0.5' for i in range(1, 25))
    bare = draw_contact_sheet([SheetRow.of(seen_image())], 'a')
    full = draw_contact_sheet([SheetRow.of(seen_image())], heading, classes)
    assert full.shape[0] > bare.shape[0] + 60 and full.shape[1] == bare.shape[1]
    for edge in (full[:3], full[-3:], full[:, :3], full[:, -3:]):
        assert (edge == 255).all()


def test_captions_tell_the_numbers() -> None:
    changed = np.zeros((60, 90), bool)
    changed[:6] = True
    row = SheetRow.of(seen_image('park.jpg', change=MapChange(changed)))
    assert row.captions[0] == 'park.jpg' and row.captions[-1] == '10.0% of pixels change class'
    assert row.captions[1] == '50% computed, 62% of the MACs'
    boxes = Objects(np.zeros(1, int), np.ones(1), boxes=np.array([[10.0, 10, 50, 50]]))
    none = Objects(np.zeros(0, int), np.ones(0), boxes=np.zeros((0, 4)))
    assert SheetRow.of(seen_image(change=match_objects(boxes, none))).captions[-1] == '0 kept, 1 vanish, 0 appear'


def test_rows_of_large_images_are_small() -> None:
    row = SheetRow.of(seen_image(height=1500, width=2000))
    assert max(row.pictures[0].shape) == max(row.pictures[1].shape) == max(row.pictures[4].shape) == 480


def test_sheet_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def look(path: Path, compare: bool):
        asked.append((path.name, compare))
        return seen_image(path.name, macs_share=0.5 if path.name == 'a.png' else 0.7)

    headings = []
    look.describe = lambda: 'SparseSwin at sparsity stage1.pair1 0.5'
    look.painter = SimpleNamespace(meta=dict(classes=['ground'], palette=[[1, 2, 3]]))
    monkeypatch.setattr(module, 'draw_contact_sheet', lambda rows, *told: headings.append((len(rows), *told)))
    make_contact_sheet(look, [Path('a.png'), Path('b.png')], 'a model')
    assert asked == [('a.png', True), ('b.png', True)]
    (count, heading, classes), *_ = headings
    assert count == 2 and classes == {'ground': (1, 2, 3)}
    assert heading == "a model: 60% of the dense backbone's MACs\nSparseSwin at sparsity stage1.pair1 0.5"


def test_number_of_images() -> None:
    for count in (0, module.MOST_ROWS + 1):
        with pytest.raises(ValueError, match=f'1 to 100 images, got {count}'):
            draw_contact_sheet([SheetRow.of(seen_image())] * count, 'heading')
