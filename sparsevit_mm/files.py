"""Files that are at their place when they are complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ['written_whole']


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
