"""Locks on files: the kernel drops them with the process that holds them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ['flock', 'open_beside', 'taking']


def open_beside(path: Path, what: str) -> IO[str]:
    """Opens a lock file beside a storage; its folder is made where it is missing.

    Args:
        path: File of the storage.
        what: What is locked, a part of the name.

    Raises:
        ValueError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path.with_name(f'.{path.name}.{what}.lock'), 'a+')
    except OSError as error:
        raise ValueError(
            f'storage {path} cannot be written: {error.strerror or error}. Give a work dir that can.'
        ) from error


@contextmanager
def taking(file: IO[str]) -> Iterator[Callable[[], bool]]:
    """A function that tries to lock a file, which is freed at the end."""
    try:
        import fcntl  # noqa: F401
    except ImportError:  # Windows
        from filelock import FileLock, Timeout
    else:
        yield lambda: flock(file)  # ends when the file is closed
        return
    lock = FileLock(file.name)

    def take() -> bool:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        return True

    try:
        yield take
    finally:
        lock.release()


def flock(file: IO[str], *, shared: bool = False) -> bool:
    """Locks an open file if no other process is in the way; the lock ends when the file is closed.

    A file that is locked already changes to the kind asked for, and may be without a lock for a moment.

    Args:
        file: What to lock.
        shared: Whether others may have a shared lock as well.

    Raises:
        ValueError: If the file system has no locks.
        ImportError: On Windows.
    """
    import fcntl

    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise ValueError(
            f'{file.name} cannot be locked: {error.strerror or error}. Give a work dir on a local disk, or a server '
            f'by --storage.'
        ) from error
    return True
