"""Camera matrices, which monocular 3D detectors need beside a picture."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ['Camera', 'Cameras']

# Focal length by the width of the image: KITTI's 722 of 1242 pixels, and the front camera of nuScenes, 1266 of 1600.
KITTI, NUSCENES = 0.581, 0.791
# The views that mmdet3d takes of an annotation file.
VIEWS = ('CAM2', 'CAM_FRONT')

Size = tuple[int, int]


@dataclass(frozen=True)
class Camera:
    """The camera of one picture.

    Args:
        matrix: Camera coordinates to pixels, 3 x 3 or 4 x 4.
        words: Where it comes from, for people.
    """

    matrix: np.ndarray
    words: str

    def scaled(self, across: float, down: float) -> 'Camera':
        """The same camera for a resized picture."""
        matrix = self.matrix.copy()
        matrix[0] *= across
        matrix[1] *= down
        return Camera(matrix, self.words)


class Cameras:
    """Finds or assumes the camera of a picture.

    Args:
        file: An annotation file of mmdet3d (``.pkl`` or ``.json``), or a JSON file with one matrix; None to assume
            a camera like that of the data set.
        focal: Focal length to assume, as a fraction of the image's width.

    Raises:
        ValueError: If the file cannot be read or holds no camera.
    """

    def __init__(self, file: str | Path | None = None, focal: float = NUSCENES) -> None:
        self._focal = focal
        self._name = None if file is None else Path(file).name
        self._views = [] if file is None else _read(Path(file))

    def of(self, name: str, size: Size, original: Size | None = None) -> Camera:
        """The camera of a picture.

        Args:
            name: Name of its file; the view of that name is taken, else the first one of the annotation file.
            size: Height and width of the picture.
            original: Those of the file, where the picture was made smaller.
        """
        if not self._views:
            return self._assumed(size)
        own = [view for view in self._views if view.name == name]
        view = own[0] if own else self._views[0]
        words = f'Camera of {view.name or "the matrix"} in {self._name}'
        if view.name and not own:
            words += f', since {name} is not in it'
        height, width = view.size or original or size
        camera = Camera(view.matrix, f'{words}.').scaled(size[1] / width, size[0] / height)
        if view.size is not None and abs(math.log(width / height * size[0] / size[1])) > 0.02:
            camera = Camera(camera.matrix, f'{camera.words} It is made for pictures of {width} x {height} pixels.')
        return camera

    def _assumed(self, size: Size) -> Camera:
        height, width = size
        matrix = np.eye(4, dtype=np.float32)
        matrix[0, 0] = matrix[1, 1] = self._focal * width
        matrix[0, 2], matrix[1, 2] = width / 2, height / 2
        view = math.degrees(2 * math.atan(0.5 / self._focal))
        return Camera(
            matrix,
            f'The camera is assumed: {view:.0f} degrees wide, looking through the middle. Distances and sizes are '
            f'only as good as that; start with --camera FILE for the real one.',
        )


@dataclass(frozen=True)
class _View:
    name: str
    matrix: np.ndarray
    size: Size | None


def _read(path: Path) -> list[_View]:
    from mmengine.fileio import load

    try:
        content = load(str(path))
        views = list(_views(content))
    except FileNotFoundError:
        raise ValueError(f'--camera: there is no file {path}.') from None
    except Exception as error:  # whatever a foreign pickle or JSON file raises
        raise ValueError(f'--camera {path} cannot be read: {type(error).__name__}: {error}') from error
    if not views:
        raise ValueError(
            f'--camera {path} holds no camera: give an annotation file of mmdet3d with images.CAM2.cam2img or '
            f'images.CAM_FRONT.cam2img, or a JSON file with a matrix of 3 x 3 or 4 x 4.'
        )
    return views


def _views(content: Any) -> Iterator[_View]:
    if isinstance(content, Sequence) and (matrix := _matrix(content)) is not None:
        yield _View('', matrix, None)
        return
    entries = content.get('data_list', []) if isinstance(content, Mapping) else content
    for entry in entries:
        images = entry.get('images') or {}
        for key in sorted(images, key=lambda key: key not in VIEWS):
            image = images[key]
            matrix = _matrix(image.get('cam2img')) if isinstance(image, Mapping) else None
            if matrix is not None and image.get('img_path'):
                size = (image['height'], image['width']) if {'height', 'width'} <= set(image) else None
                yield _View(Path(image['img_path']).name, matrix, size)


def _matrix(values: Any) -> np.ndarray | None:
    try:
        matrix = np.array(values, dtype=np.float32)
    except (TypeError, ValueError):
        return None
    return matrix if matrix.shape in ((3, 3), (4, 4)) else None
