"""Real images at a size, for what depends on them: counts that images decide by themselves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..extras import require

__all__ = ['load_batches', 'load_photographs', 'write_photographs']

# Those that are part of scikit-image's package; others it would download.
PHOTOGRAPHS = ('astronaut', 'chelsea', 'coffee', 'rocket')


def load_batches(
    files: Sequence[Path], shape: tuple[int, int], batch: int, preprocessor: Mapping[str, Any] | None
) -> list[Tensor]:
    """Images resized to one shape, whatever their own, and normalised as a model has them.

    Args:
        files: Image files; what is left over from whole batches is not used.
        shape: Height and width in pixels.
        batch: Images in a batch.
        preprocessor: Config of the model's data preprocessor, for ``mean``, ``std`` and ``bgr_to_rgb``.

    Returns:
        Batches ``[batch, 3, H, W]``, at least one.

    Raises:
        ValueError: If there are too few images, or one cannot be read.
    """
    import mmcv

    if len(files) < batch:
        raise ValueError(f'images: {len(files)} are too few for a batch of {batch}.')
    preprocessor = preprocessor or {}
    mean = np.array(preprocessor.get('mean') or [0.0] * 3, dtype=np.float32)
    std = np.array(preprocessor.get('std') or [1.0] * 3, dtype=np.float32)
    loaded = []
    for file in files[: len(files) // batch * batch]:
        image = mmcv.imread(str(file))
        if image is None:
            raise ValueError(f'images: {file} cannot be read as an image.')
        image = mmcv.imresize(image, (shape[1], shape[0]))
        normalised = mmcv.imnormalize(image, mean, std, to_rgb=bool(preprocessor.get('bgr_to_rgb')))
        loaded.append(torch.from_numpy(normalised).permute(2, 0, 1))
    return list(torch.stack(loaded).split(batch))


def load_photographs(shape: tuple[int, int], preprocessor: Mapping[str, Any] | None) -> list[Tensor]:
    """The photographs that come with scikit-image, ``[1, 3, H, W]`` each, where nobody names images.

    Args:
        shape: As for :func:`load_batches`.
        preprocessor: Likewise.

    Raises:
        ValueError: If scikit-image is not installed.
    """
    with TemporaryDirectory() as folder:
        return load_batches(write_photographs(Path(folder)), shape, 1, preprocessor)


def write_photographs(folder: Path) -> list[Path]:
    """The photographs that come with scikit-image, as files in a folder.

    Raises:
        ValueError: If scikit-image is not installed.
    """
    require('skimage')
    import skimage.data
    from skimage.io import imsave

    files = [folder / f'{name}.png' for name in PHOTOGRAPHS]
    for file in files:
        imsave(file, getattr(skimage.data, file.stem)(), check_contrast=False)
    return files
