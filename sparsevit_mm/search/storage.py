"""Where a study lives: opening it, keeping a second process off a local file, telling studies apart."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

__all__ = ['StudyLock', 'differences', 'jsonable', 'open_storage', 'sqlite_path', 'sqlite_url']


def sqlite_url(path: str | os.PathLike) -> str:
    """The URL of a SQLite file."""
    return f'sqlite:///{Path(path).resolve()}'


def sqlite_path(url: str) -> Path | None:
    """The file behind a SQLite URL, None for memory and for servers."""
    driver, _, path = url.partition('://')
    path = path.partition('?')[0][1:]
    return Path(path) if driver.split('+')[0] == 'sqlite' and path and path != ':memory:' else None


def open_storage(url: str | None) -> 'BaseStorage':
    """Optuna's storage at a URL, in memory where there is none.

    Raises:
        ValueError: If the storage cannot be reached, written or understood.
    """
    import optuna
    import sqlalchemy

    if url is None:
        return optuna.storages.InMemoryStorage()
    path = sqlite_path(url)
    # A writer of another process is waited for instead of failing with "database is locked".
    options = {'connect_args': {'timeout': 60}} if path else {'pool_pre_ping': True}
    shown = _without_password(url)
    try:
        storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
        _assert_writable(path)
        return storage
    except ImportError as error:
        raise ValueError(
            f'storage {shown} needs a database driver that is not installed ({error.__cause__ or error}). Install it, '
            f'for PostgreSQL `pip install "psycopg[binary]"` and postgresql+psycopg://user@host/database.'
        ) from error
    except sqlalchemy.exc.ArgumentError as error:
        raise ValueError(
            f'storage {shown} is not a database URL. Write sqlite:///path/to/study.sqlite3 or '
            f'postgresql+psycopg://user@host/database.'
        ) from error
    except (OSError, RuntimeError, sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ValueError(
            f'storage {shown} cannot be opened for writing: {reason}. Check that it exists, may be written and has '
            f'room, or give another one with --storage or --work-dir.'
        ) from error


def _assert_writable(path: Path | None) -> None:
    """Raises now what the first result would raise after its evaluation."""
    if path and not os.access(path, os.W_OK):
        raise PermissionError(f'{path} is read-only')
    if path and not os.access(path.parent, os.W_OK):
        raise PermissionError(f'{path.parent}, where SQLite puts its journal, is read-only')


def _without_password(url: str) -> str:
    """A URL fit for a message."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return repr(url)


class StudyLock:
    """Keeps a second search off a local study, as long as this process lives.

    The kernel drops the lock with the process, so a killed search leaves nothing to clean up. A study on a
    database server is not locked.

    Args:
        url: URL of the storage.

    Raises:
        ValueError: If another process holds it.
    """

    def __init__(self, url: str | None) -> None:
        path = sqlite_path(url) if url else None
        self._file = None
        if path is None:
            return
        try:
            import fcntl
        except ImportError:  # Windows; SQLite's own locks still keep the file whole
            return
        lock = path.with_name(f'.{path.name}.lock')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(lock, 'a+')  # noqa: SIM115 - open as long as the study is
        except OSError as error:
            raise ValueError(
                f'storage {path} cannot be written: {error.strerror or error}. Give a work dir that can.'
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or 'unknown'
            self._file.close()
            raise ValueError(
                f'storage {path} is in use by another search (process {holder}). Wait for it, stop it, or search in '
                f'another work dir.'
            ) from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    @property
    def held(self) -> bool:
        """Whether this process is known to be alone with the study."""
        return self._file is not None

    def release(self) -> None:
        """Lets others at the study."""
        if self._file is not None:
            self._file.close()
            self._file = None


def jsonable(value: Any) -> Any:
    """A config value as JSON data: sequences become lists, what JSON has no form for its name."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((jsonable(item) for item in value), key=repr)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [jsonable(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, type) or callable(value):
        return f'{getattr(value, "__module__", "")}.{getattr(value, "__qualname__", type(value).__name__)}'
    return str(value)


def _leaves(value: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Every leaf of nested JSON data with its dotted path."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f'{path}.{key}' if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        for i, item in enumerate(value):
            yield from _leaves(item, f'{path}.{i}')
    else:
        yield path, value


def differences(stored: Mapping, present: Mapping) -> list[str]:
    """One line for every leaf in which two fingerprints differ, empty where they agree."""
    missing = object()
    a, b = dict(_leaves(stored)), dict(_leaves(present))
    lines = []
    for key in [*a, *(key for key in b if key not in a)]:
        old, new = a.get(key, missing), b.get(key, missing)
        if old != new:
            shown = ['nothing' if value is missing else repr(value) for value in (old, new)]
            lines.append(f'{key} is {shown[0]} in the study and {shown[1]} now')
    return lines
