"""Images as a config's own test pipeline and data preprocessor hand them to the backbone."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from torch import Tensor, nn

from ..pipelines import test_pipeline
from ..registry import type_name

__all__ = [
    'ImageReader',
    'NetworkInput',
    'UnreadableImage',
    'camera_boxes',
    'decode_image',
    'image_pipeline',
    'loading_sample',
    'network_images',
    'network_picture',
]


class UnreadableImage(ValueError):
    """A file that is missing or no image."""


@dataclass(frozen=True)
class NetworkInput:
    """One image on its way into the network.

    Args:
        path: The file it came from.
        picture: The image at the size the network sees it, uint8 RGB of shape (h, w, 3), before
            normalisation and padding.
        tensor: The backbone's input of shape (1, 3, H, W): normalised, padded at the right and the bottom.
        original: The image as it is in the file, uint8 RGB.
        sample: What the pipeline made of it.
    """

    path: Path
    picture: np.ndarray
    tensor: Tensor
    original: np.ndarray = field(repr=False)
    sample: Mapping[str, Any] = field(repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the backbone's input."""
        return tuple(self.tensor.shape[-2:])

    def batch(self) -> Mapping[str, Any]:
        """A batch of this image alone, as ``model.test_step`` takes it; a new one each time: models write into it."""
        return pseudo_collate([copy.deepcopy(self.sample)])


class ImageReader:
    """Reads image files the way a model's config tests them.

    It serves detectors, segmentors and monocular 3D detectors. Annotations are not loaded, and the camera that 3D
    pipelines ask for is made up: one of a usual angle of view. What the backbone sees does not depend on either. Nor
    does where in the image a 3D detector finds an object; how large it is drawn does.

    Args:
        cfg: The model's config, with its modules registered and its default scope set.
        model: The model, for its data preprocessor.

    Raises:
        ValueError: If the config has no test pipeline.
    """

    def __init__(self, cfg: Config, model: nn.Module) -> None:
        self._pipeline = image_pipeline(cfg)
        self._preprocess = model.data_preprocessor
        self._boxes = camera_boxes() if cfg.get('default_scope') == 'mmdet3d' else {}

    def __call__(self, path: str | Path) -> NetworkInput:
        """Read one file.

        Raises:
            UnreadableImage: If the file is missing or no image.
        """
        path = Path(path)
        if not path.is_file():
            raise UnreadableImage(f'There is no image {path}.')
        original = decode_image(path.read_bytes())
        if original is None:
            raise UnreadableImage(f'{path} cannot be read as an image.')
        sample = self._pipeline(loading_sample(path, _usual_camera(original.shape[:2])) | self._boxes)
        batch = pseudo_collate([copy.deepcopy(sample)])
        images = network_images(self._preprocess(batch, training=False)['inputs'])
        return NetworkInput(path, network_picture(sample['inputs']), images, original, sample)


def image_pipeline(cfg: Config) -> Compose:
    """A config's test pipeline without the steps that load annotations.

    Raises:
        ValueError: If the config has no test pipeline.
    """
    return Compose([step for step in test_pipeline(cfg) if 'Annotations' not in type_name(step)])


def loading_sample(path: Path, cam2img: np.ndarray) -> dict[str, Any]:
    """What the loading steps of mmdet, mmseg and mmdet3d read, in one dict.

    Args:
        path: The image file.
        cam2img: The camera matrix, for monocular 3D detectors.
    """
    camera = dict(img_path=str(path), cam2img=cam2img)
    return dict(img_path=str(path), img_id=0, sample_idx=0, images=dict(CAM2=camera))


def network_images(inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
    """The images ``[B, 3, H, W]`` in what a data preprocessor gives: themselves, or for mmdet3d a dict with them."""
    return inputs['imgs'] if isinstance(inputs, Mapping) else inputs


def network_picture(inputs: Tensor | Mapping[str, Tensor]) -> np.ndarray:
    """An image as its pipeline leaves it, as uint8 RGB: at the network's size, without normalisation and padding.

    Args:
        inputs: What the pipeline packs as inputs: an image ``[3, h, w]`` in BGR, as mmcv reads them, or for mmdet3d a
            dict with one.

    Raises:
        ValueError: If it is not one image.
    """
    image = inputs.get('img') if isinstance(inputs, Mapping) else inputs
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3:
        shape = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f'one image with 3 channels can be drawn, the pipeline gives {shape}.')
    rgb = image.cpu().numpy()[::-1].transpose(1, 2, 0)
    return np.ascontiguousarray(rgb.clip(0, 255).astype(np.uint8))


def decode_image(content: bytes) -> np.ndarray | None:
    """The bytes of an image file as uint8 RGB, ``None`` if they are no image."""
    image = mmcv.imfrombytes(content) if content else None
    return None if image is None else np.ascontiguousarray(image[..., ::-1])


def _usual_camera(size: tuple[int, int]) -> np.ndarray:
    """A camera matrix for images of a height and width: of an angle of view between KITTI's and nuScenes' fronts."""
    height, width = size
    cam2img = np.eye(4, dtype=np.float32)
    cam2img[0, 0] = cam2img[1, 1] = 0.7 * width
    cam2img[:2, 2] = width / 2, height / 2
    return cam2img


def camera_boxes() -> dict[str, Any]:
    """What data sets of mmdet3d say of the boxes of a monocular detector."""
    from mmdet3d.structures import get_box_type

    box_type, box_mode = get_box_type('Camera')
    return dict(box_type_3d=box_type, box_mode_3d=box_mode)
