"""Files that are at their place when they are complete, and the images of folders."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ['list_images', 'written_whole']

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives a file beside a path to write to, which takes its place at the end; nothing is left of it after an error.

    It has the suffix of the path, by which writers go. Whoever reads the path sees the file before or after it.
    """
    unfinished = path.with_name(f'.{os.getpid()}.{path.name}')
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def list_images(paths: Sequence[str | Path]) -> list[Path]:
    """The given files and, sorted by name, the image files in the given folders.

    Raises:
        ValueError: If a path does not exist, or a folder has no image.
    """
    return [image for path in paths for image in _expand(Path(path))]


def _expand(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise ValueError(f'images: there is no file or folder {path}.')
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise ValueError(f'images: the folder {path} has no image; looked for {", ".join(IMAGE_SUFFIXES)}.')
    yield from found
