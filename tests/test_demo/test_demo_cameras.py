"""Cameras of annotation files, of one matrix, and assumed ones."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from sparsevit_mm.demo import Cameras
from sparsevit_mm.demo.cameras import KITTI

MATRIX = [[720.0, 0, 610, 45], [0, 720, 173, 0.2], [0, 0, 1, 0], [0, 0, 0, 1]]


def _annotations(*names: str, **more: object) -> dict:
    views = [dict(img_path=f'training/{name}', cam2img=MATRIX, **more) for name in names]
    other = dict(cam2img=np.eye(4).tolist())  # KITTI's other cameras have no image, and there are matrices beside them
    return dict(metainfo={}, data_list=[dict(images=dict(CAM0=other, CAM2=view, R0_rect=MATRIX)) for view in views])


def test_view_of_the_picture_is_found_and_scaled(tmp_path: Path) -> None:
    annotations = _annotations('000001.png', '000002.png', height=375, width=1242)
    annotations['data_list'][1]['images']['CAM2']['cam2img'] = (np.array(MATRIX) + 1).tolist()
    (tmp_path / 'infos.json').write_text(json.dumps(annotations))
    camera = Cameras(tmp_path / 'infos.json').of('000002.png', (375, 1242))
    assert np.allclose(camera.matrix, np.array(MATRIX) + 1)
    assert '000002.png in infos.json' in camera.words
    half = Cameras(tmp_path / 'infos.json').of('000001.png', (375 // 2, 621), original=(375, 1242))
    assert half.matrix[0, 0] == pytest.approx(360) and half.matrix[0, 2] == pytest.approx(305)
    assert half.matrix[2, 2] == 1


def test_picture_that_is_not_in_the_file(tmp_path: Path) -> None:
    with open(tmp_path / 'infos.pkl', 'wb') as file:
        pickle.dump(_annotations('000001.png', height=375, width=1242), file)
    camera = Cameras(tmp_path / 'infos.pkl').of('mine.jpg', (750, 1000))
    assert 'mine.jpg is not in it' in camera.words and 'made for pictures of 1242 x 375' in camera.words
    assert camera.matrix[0, 0] == pytest.approx(720 * 1000 / 1242)
    assert camera.matrix[1, 1] == pytest.approx(720 * 2)


def test_matrix_of_three_by_three_for_pictures_of_any_size(tmp_path: Path) -> None:
    (tmp_path / 'mine.json').write_text('[[1000, 0, 500], [0, 1000, 250], [0, 0, 1]]')
    cameras = Cameras(tmp_path / 'mine.json')
    assert cameras.of('a.png', (500, 1000)).matrix[0].tolist() == [1000, 0, 500]
    assert cameras.of('a.png', (250, 500), original=(500, 1000)).matrix[0].tolist() == [500, 0, 250]


def test_assumed_camera_sees_as_wide_as_that_of_the_data_set() -> None:
    camera = Cameras(focal=KITTI).of('a.png', (375, 1242))
    assert camera.matrix[0, 0] == camera.matrix[1, 1] == pytest.approx(721.5, rel=0.01)
    assert camera.matrix[:2, 2].tolist() == [621, 187.5]
    assert 'assumed: 81 degrees' in camera.words and '--camera FILE' in camera.words


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('missing.pkl', None, 'there is no file'),
        ('a.json', '{', 'cannot be read'),
        ('a.txt', 'no camera', 'cannot be read'),
        ('a.json', '{"data_list": []}', 'holds no camera'),
        ('a.json', '[[1, 2], [3, 4]]', 'cannot be read|holds no camera'),
    ],
)
def test_mistakes(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=rf'--camera.*({message})'):
        Cameras(tmp_path / name)
