"""Files that are at their place when they are complete."""

import errno
import os
from pathlib import Path

import numpy as np
from PIL import Image

from ..files import written_whole

__all__ = ['check_writable', 'part_of', 'save_picture']


def check_writable(path: Path) -> None:
    """Looks whether a file can be written, before anything is computed for it; its folder is made if it is missing.

    Raises:
        OSError: If it cannot.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    part.touch()
    part.unlink()


def part_of(path: Path) -> Path:
    """Where a file is until it is complete; it has the same suffix, by which writers go."""
    return path.with_name(f'.{path.stem}.part{path.suffix}')


def save_picture(picture: np.ndarray, path: Path) -> None:
    """Write uint8 RGB as an image file.

    Raises:
        OSError: If it cannot be written.
    """
    with written_whole(path) as unfinished:
        Image.fromarray(picture).save(unfinished, optimize=True)
