"""Sample images of a search with what is computed of them at the found sparsity."""

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from PIL import Image
from torch import nn

from ..models import SparseBackbone
from ..visualization import draw_overview, network_picture, site_maps

__all__ = ['draw_samples']

_LONGEST, _LARGEST = 1800, 200_000  # pixels of a side, bytes of a file: a report holds several of them
_QUALITIES = (88, 80, 70, 60)


@torch.no_grad()
def draw_samples(
    model: nn.Module,
    backbone: SparseBackbone,
    dataset: Sequence[Any],
    sparsity: float | Sequence[float],
    folder: Path,
    count: int = 3,
) -> list[Path]:
    """Draws what a backbone computes of some images of a data set, spread over it from the first on.

    An image that cannot be drawn is left out, with a warning in the log: pictures are no reason for a search to fail.

    Args:
        model: The model, for its data preprocessor.
        backbone: Its sparse backbone; it comes back at the sparsity and in the mode that it had.
        dataset: The built data set of a detector, a segmentor or a monocular 3D detector, with its test pipeline.
        sparsity: A float for all sites, or one a site.
        folder: Where the pictures go, made if it is missing.
        count: Number of images.

    Returns:
        The files, at most 200 kB each: ``1_NAME.jpg`` and so on, with the names of the images.
    """
    before, modes = backbone.sparsity, [(module, module.training) for module in model.modules()]
    files = []
    try:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        model.eval()
        backbone.sparsity = sparsity
        count = min(count, len(dataset))
        for number in range(count):
            index = number * len(dataset) // count  # neighbours are often frames of one video
            try:
                files.append(_draw(model, backbone, dataset[index], number + 1, folder))
            except Exception as error:  # data sets, pipelines and preprocessors are not ours
                _warn(f'image {index}', error)
    except Exception as error:
        _warn('any image', error)
    finally:
        backbone.sparsity = before
        for module, training in modes:
            module.training = training
    return files


def _warn(what: str, error: Exception) -> None:
    reason = f'{type(error).__name__}: {error}'
    print_log(f'no picture of {what} for the report: {reason}', logger='current', level=logging.WARNING)


def _draw(model: nn.Module, backbone: SparseBackbone, item: Mapping[str, Any], number: int, folder: Path) -> Path:
    images = model.data_preprocessor(pseudo_collate([item]), False)['inputs']
    images = images['imgs'] if isinstance(images, Mapping) else images
    images = torch.stack(list(images)) if isinstance(images, list | tuple) else images
    picture = network_picture(item['inputs'])
    with backbone.record_selections() as records:
        backbone(images)
    size = tuple(images.shape[-2:])
    sparsity = dict(zip(backbone.sites, backbone.sparsity))
    maps = site_maps(records, picture.shape[:2], input_size=size, sparsity=sparsity)
    source = getattr(item.get('data_samples'), 'img_path', None)
    name = Path(source).stem if isinstance(source, str) else 'image'
    path = folder / f'{number}_{name}.jpg'
    path.write_bytes(_jpeg(draw_overview(picture, maps, name)))
    return path


def _jpeg(picture: np.ndarray) -> bytes:
    """A picture as a file of moderate size."""
    image = Image.fromarray(picture)
    image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, 'JPEG', quality=quality, optimize=True)
            if buffer.tell() <= _LARGEST:
                return buffer.getvalue()
        image = image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.LANCZOS)
