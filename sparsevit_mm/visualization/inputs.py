"""Images as a config's own test pipeline and data preprocessor hand them to the backbone."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import mmcv
import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from torch import Tensor, nn

__all__ = ['IMAGE_SUFFIXES', 'ImageReader', 'NetworkInput', 'list_images']

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')


@dataclass(frozen=True)
class NetworkInput:
    """One image on its way into the network.

    Args:
        path: The file it came from.
        picture: The image at the size the network sees it, uint8 RGB of shape (h, w, 3), before
            normalisation and padding.
        tensor: The backbone's input of shape (1, 3, H, W): normalised, padded at the right and the bottom.
    """

    path: Path
    picture: np.ndarray
    tensor: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the backbone's input."""
        return tuple(self.tensor.shape[-2:])


class ImageReader:
    """Reads image files the way a model's config tests them.

    It serves detectors, segmentors and monocular 3D detectors. Annotations are not loaded, and the camera
    that 3D pipelines ask for is an identity matrix: what the backbone sees does not depend on either.

    Args:
        cfg: The model's config, with its modules registered and its default scope set.
        model: The model, for its data preprocessor.

    Raises:
        ValueError: If the config has no test pipeline.
    """

    def __init__(self, cfg: Config, model: nn.Module) -> None:
        steps = _test_pipeline(cfg)
        self._pipeline = Compose([step for step in steps if 'Annotations' not in step['type']])
        self._preprocess = model.data_preprocessor

    def __call__(self, path: str | Path) -> NetworkInput:
        """Read one file.

        Raises:
            ValueError: If the file is missing or no image.
        """
        path = Path(path)
        if not path.is_file():
            raise ValueError(f'There is no image {path}.')
        content = path.read_bytes()
        if not content or mmcv.imfrombytes(content) is None:
            raise ValueError(f'{path} cannot be read as an image.')
        sample = self._pipeline(_sample(path))
        # What goes in and what comes out is a tensor, or for mmdet3d a dict with one.
        picture, images = sample['inputs'], self._preprocess(pseudo_collate([sample]), training=False)['inputs']
        if isinstance(picture, dict):
            picture, images = picture['img'], images['imgs']
        rgb = picture.numpy()[::-1].transpose(1, 2, 0)  # mmcv reads BGR
        return NetworkInput(path, np.ascontiguousarray(rgb.clip(0, 255).astype(np.uint8)), images)


def list_images(paths: Sequence[str | Path]) -> list[Path]:
    """The image files among the given files and, sorted by name, in the given folders.

    Raises:
        ValueError: If a path does not exist, or a folder has no image.
    """
    return [image for path in paths for image in _expand(Path(path))]


def _expand(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise ValueError(f'There is no file or folder {path}.')
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise ValueError(f'The folder {path} has no image; looked for {", ".join(IMAGE_SUFFIXES)}.')
    yield from found


def _test_pipeline(cfg: Config) -> list[ConfigDict]:
    """The pipeline of the first data set that the config is tested on."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    while dataset and 'pipeline' not in dataset:
        dataset = dataset.get('dataset') or (dataset.get('datasets') or [None])[0]
    steps = dataset['pipeline'] if dataset else cfg.get('test_pipeline')
    if not steps:
        raise ValueError(
            'The config has no test pipeline: neither test_dataloader.dataset.pipeline nor test_pipeline is there.'
        )
    return deepcopy(steps)


def _sample(path: Path) -> dict:
    """What the loading transforms of mmdet, mmseg and mmdet3d read, in one dict."""
    camera = dict(img_path=str(path), cam2img=np.eye(4, dtype=np.float32))
    return dict(img_path=str(path), img_id=0, sample_idx=0, images=dict(CAM2=camera))
