"""Where a study lives: opening it, and knowing whether others are at a local file."""

import os
import warnings
from typing import IO, TYPE_CHECKING

from .database import backend_of, engine_options, reason_of, shown, sqlite_path
from .exclusion import Exclusion
from .file_lock import flock, open_beside

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage

__all__ = ['Presence', 'open_storage']

# What a refusal says, and what to do about it.
_ADVICE = (
    ('password', 'Check the user and the password in the URL.'),
    ('role "', 'Check the user in the URL, or have the role created.'),
    ('database "', 'Have it created first, with `createdb`.'),
    ('too many clients', 'Have max_connections of the server raised, or put pgbouncer between.'),
    ('remaining connection slots', 'Have max_connections of the server raised, or put pgbouncer between.'),
    ('read-only', 'Give a primary server and a role that may write (default_transaction_read_only is off).'),
    ('permission denied', 'Give a role that may create tables there and write to them.'),
    ('Connection refused', 'Check that the server runs and listens at this host and port.'),
    ('resolve host', 'Check the name of the host.'),
    ('translate host', 'Check the name of the host.'),
    ('timeout', 'Check host and port, and that no firewall is between.'),
)
_ADVICE_ELSE = 'Check that it exists, may be written and has room, or give another one with --storage or --work-dir.'


def open_storage(url: str | None, *, heartbeat: int | None = None, grace: int | None = None) -> 'BaseStorage':
    """Optuna's storage at a URL, in memory where there is none.

    Tables are made where there are none, by one process at a time. A server gets one lasting connection from each
    process, and at most two more for moments.

    Args:
        url: URL of the storage.
        heartbeat: Seconds between two signs of life of a running trial, None for none.
        grace: Seconds of silence after which a trial is taken for lost, None for twice the heartbeat.

    Raises:
        ValueError: If the storage cannot be reached, written or understood.
    """
    import optuna
    import sqlalchemy

    if url is None:
        return optuna.storages.InMemoryStorage()
    try:
        storage = _connect(url, heartbeat, grace)
        _assert_writable(storage, url)
        return storage
    except ImportError as error:
        raise ValueError(
            f'storage {shown(url)} needs a database driver that is not installed ({reason_of(error)}). Install '
            f'it, for PostgreSQL `pip install "psycopg[binary]"` and postgresql+psycopg://user@host/database.'
        ) from error
    except sqlalchemy.exc.ArgumentError as error:
        raise ValueError(
            f'storage {shown(url)} names a driver that does not exist. Write sqlite:///path/to/study.sqlite3 or '
            f'postgresql+psycopg://user@host/database.'
        ) from error
    except (OSError, RuntimeError, sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        raise ValueError(f'storage {shown(url)} cannot be opened for writing: {_reason(error, url)}') from error


def _connect(url: str, heartbeat: int | None, grace: int | None) -> 'RDBStorage':
    exclusion = Exclusion(url, 'storage', 'opening')
    if _has_tables(url):
        return _open(url, heartbeat, grace)
    with exclusion.hold():
        return _open(url, heartbeat, grace)


def _has_tables(url: str) -> bool:
    """Whether Optuna's tables are complete: the revision is what is written last."""
    from sqlalchemy import NullPool, create_engine, inspect, text

    with create_engine(url, poolclass=NullPool, **engine_options(url)).connect() as connection:
        if not inspect(connection).has_table('alembic_version'):
            return False
        return connection.scalar(text('SELECT count(*) FROM alembic_version')) > 0


def _open(url: str, heartbeat: int | None, grace: int | None) -> 'RDBStorage':
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import RDBStorage

    options = engine_options(url)
    if backend_of(url) not in ('memory', 'sqlite'):
        options |= {'pool_pre_ping': True, 'pool_size': 1, 'max_overflow': 2}
    url = url.replace('{', '{{').replace('}', '}}')  # Optuna takes it for a template
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ExperimentalWarning)
        return RDBStorage(url, engine_kwargs=options, heartbeat_interval=heartbeat, grace_period=grace)


def _assert_writable(storage: 'RDBStorage', url: str) -> None:
    """Raises now what the first result would raise after its evaluation."""
    from sqlalchemy import text

    path = sqlite_path(url)
    if path and not os.access(path, os.W_OK):
        raise PermissionError(f'{path} is read-only')
    if path and not os.access(path.parent, os.W_OK):
        raise PermissionError(f'{path.parent}, where SQLite puts its journal, is read-only')
    if path is None:
        with storage.engine.begin() as connection:  # no row is changed, but the rights are checked
            connection.execute(text('INSERT INTO trials (study_id) SELECT study_id FROM trials WHERE 1 = 0'))
            connection.execute(text('UPDATE trials SET number = number WHERE 1 = 0'))


def _reason(error: Exception, url: str) -> str:
    """What went wrong in one line, and what to do."""
    from sqlalchemy.engine import make_url

    reason, password = reason_of(error), make_url(url).password
    if password:
        reason = reason.replace(str(password), '***')
    advice = next((advice for sign, advice in _ADVICE if sign in reason), _ADVICE_ELSE)
    return f'{reason}. {advice}'


class Presence:
    """Shows others that this process is at a local study, as long as it lives.

    The kernel drops the sign with the process, so a killed search leaves nothing to clean up. What follows from
    being alone has to be done before another process can come: both belong under one :class:`Exclusion`.

    Args:
        url: URL of the storage, None for memory.

    Attributes:
        alone: Whether no other process was at the study. It is always so in memory, and never known of a server.

    Raises:
        ValueError: If it is no URL of a database, or the folder of a local study cannot be written or has no locks.
    """

    def __init__(self, url: str | None) -> None:
        backend = backend_of(url)
        self.alone = backend == 'memory'
        self._file: IO[str] | None = None
        if backend != 'sqlite':
            return
        # Changing the kind of a lock is no single step; nobody else may try for it in between.
        with Exclusion(url, 'storage', 'opening').hold():
            self._file = open_beside(sqlite_path(url), 'present')
            try:
                self.alone = flock(self._file)
                flock(self._file, shared=True)
            except ImportError:  # Windows has no shared locks
                self.alone = False

    def release(self) -> None:
        """Shows it no longer."""
        if self._file is not None:
            self._file.close()
            self._file = None
