from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparsevit_mm.visualization import check_writable, save_picture


def test_picture_comes_back_and_nothing_else(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    check_writable(tmp_path / 'new' / 'sheet.png')
    assert not list((tmp_path / 'new').iterdir())
    save_picture(picture, tmp_path / 'new' / 'sheet.png')
    assert [file.name for file in (tmp_path / 'new').iterdir()] == ['sheet.png']
    assert np.array_equal(np.asarray(Image.open(tmp_path / 'new' / 'sheet.png')), picture)


def test_picture_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / 'sheet.png').write_text('the old one')
    with pytest.raises(TypeError):
        save_picture(np.zeros((2, 2, 5), np.uint8), tmp_path / 'sheet.png')
    assert [file.read_text() for file in tmp_path.iterdir()] == ['the old one']


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    for path in (tmp_path, tmp_path / 'file' / 'sheet.png'):
        with pytest.raises(OSError):
            check_writable(path)
