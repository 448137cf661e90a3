"""A picture on its way into a model: as it is in its file, as the network sees it, and as a batch of one."""

import copy
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import mmcv
import numpy as np
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch import Tensor, nn

from ..visualization import decode_image, network_picture
from ..visualization.inputs import camera_boxes, image_pipeline, loading_sample, network_images
from .cameras import Camera, Cameras

__all__ = ['PictureReader', 'PreparedPicture']

LONGEST = 2048  # pixels of the longer side, beyond which a picture is made smaller before anything else
MOST_PIXELS = 100_000_000  # decoded, this is 300 MB


@dataclass(frozen=True)
class PreparedPicture:
    """One picture, ready to be predicted on as often as one likes.

    Args:
        rgb: The picture of the file, uint8 RGB of shape (h, w, 3).
        seen: The picture at the size that the network sees, before normalisation and padding.
        canvas: The one of the two that predictions are for.
        inputs: What the model takes, from its data preprocessor.
        samples: The data samples that belong to it; a forward pass changes them, see :meth:`new_samples`.
        images: The tensor in ``inputs``, ``[1, 3, H, W]``.
        camera: Of monocular 3D detectors.
        original: Height and width in the file, where the picture was made smaller.
    """

    rgb: np.ndarray
    seen: np.ndarray
    canvas: np.ndarray
    inputs: Tensor | dict[str, Tensor]
    samples: list[Any]
    images: Tensor
    camera: Camera | None = None
    original: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return tuple(self.images.shape[-2:])

    def new_samples(self) -> list[Any]:
        """Data samples for one more forward pass."""
        return copy.deepcopy(self.samples)


class PictureReader:
    """Reads image files by a model's own test pipeline, without annotations.

    Args:
        model: A detector, segmentor or monocular 3D detector with its config, as ``build_model`` gives it.
        canvas: What predictions are for: ``'file'`` for the picture in its file, ``'seen'`` for that which the network
            sees, ``'smaller'`` for the smaller one, which needs less memory where every pixel has many classes.
        cameras: Camera matrices, for monocular 3D detectors.

    Raises:
        ValueError: If the config has no test pipeline.
    """

    def __init__(self, model: nn.Module, canvas: str = 'file', cameras: Cameras | None = None) -> None:
        self._pipeline = image_pipeline(model.cfg)
        self._preprocess = model.data_preprocessor
        self._canvas, self._cameras = canvas, cameras
        self._boxes = {} if cameras is None else camera_boxes()

    def __call__(self, path: str | Path) -> PreparedPicture:
        """Read one file.

        Raises:
            ValueError: If it is missing, no image, or too large.
        """
        path = Path(path)
        rgb, original = _read(path)
        with TemporaryDirectory() as folder:
            file = path
            if original is not None:
                file = Path(folder) / f'{path.stem}.png'
                mmcv.imwrite(np.ascontiguousarray(rgb[..., ::-1]), str(file))
            camera = self._cameras and self._cameras.of(path.name, rgb.shape[:2], original)
            matrix = np.eye(4, dtype=np.float32) if camera is None else camera.matrix.copy()
            sample = self._pipeline(loading_sample(file, matrix) | self._boxes)
        seen, sample = network_picture(sample['inputs']), dict(sample)
        if camera is not None:  # not every pipeline that resizes pictures scales the camera with them
            camera = camera.scaled(seen.shape[1] / rgb.shape[1], seen.shape[0] / rgb.shape[0])
            sample['data_samples'].set_metainfo(dict(cam2img=camera.matrix))
        use_seen = self._canvas == 'seen' or (self._canvas == 'smaller' and seen.size < rgb.size)
        if use_seen:
            sample['data_samples'].set_metainfo(dict(ori_shape=seen.shape[:2]))
        data = self._preprocess(pseudo_collate([sample]), training=False)
        inputs = data['inputs']
        images, canvas = network_images(inputs), seen if use_seen else rgb
        return PreparedPicture(rgb, seen, canvas, inputs, data['data_samples'], images, camera, original)


def _read(path: Path) -> tuple[np.ndarray, tuple[int, int] | None]:
    """A file as RGB, and its height and width if that is not the whole of it."""
    if not path.is_file():
        raise ValueError(f'There is no image {path}.')
    _check_size(path)
    try:
        image = decode_image(path.read_bytes())
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f'{path.name} cannot be read as an image.')
    height, width = image.shape[:2]
    if max(height, width) <= LONGEST:
        return image, None
    scale = LONGEST / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return mmcv.imresize(image, size, interpolation='area'), (height, width)


def _check_size(path: Path) -> None:
    """Refuses what would take too much memory, before it is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(path) as header:
                pixels = header.width * header.height
    except Image.DecompressionBombError:
        pixels = math.inf
    except (OSError, SyntaxError):  # Pillow does not know all that OpenCV reads
        pixels = 0
    if pixels > MOST_PIXELS:
        raise ValueError(
            f'{path.name} is too large: pictures of at most {MOST_PIXELS // 10**6} million pixels are read.'
        )
