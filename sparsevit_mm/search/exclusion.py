"""One process at a time: locks that are freed by the kernel or the server when their holder dies."""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING

from .database import Patience, backend_of, engine_options, shown, sqlite_path
from .file_lock import open_beside, taking

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

__all__ = ['Exclusion']

_TURN = 2  # seconds that a server lets a process queue before it looks up
_PAUSES = 0.01, 0.1  # seconds between two tries at a file, the first ones and the later ones
_LOCK_NOT_AVAILABLE = '55P03'


class Exclusion:
    """Lets one process at a time at a study's bookkeeping; freed by the kernel or the server when the holder dies.

    A study in memory is guarded by a thread lock, one in a SQLite file by a file lock beside it, one on a server
    by an advisory lock on a connection of its own. PostgreSQL holds it for one transaction, so that a pool of
    connections may stand between. Threads exclude each other too; it cannot be taken twice by one thread.

    Args:
        url: URL of the storage, None for memory.
        name: Name of the study.
        what: What is guarded; locks of different kinds are independent.

    Raises:
        ValueError: If it is no URL of a database, or of a kind without such locks.
    """

    def __init__(self, url: str | None, name: str, what: str = 'ask') -> None:
        holds = {
            'memory': self._in_memory,
            'sqlite': self._beside_file,
            'postgresql': self._in_postgresql,
            'mysql': self._in_mysql,
            'mariadb': self._in_mysql,
        }
        backend = backend_of(url)
        if backend not in holds:
            raise ValueError(
                f'storage {shown(url)} is a database of the kind {backend!r}, which a search cannot use: its workers '
                f'need locks that end with their holder. Use SQLite on one machine, PostgreSQL or MySQL on several.'
            )
        self.url, self.name, self.what = url, name, what
        self._hold: Callable[[Patience], AbstractContextManager[Callable[[], bool]]] = holds[backend]
        self._thread_lock = threading.Lock()

    @contextmanager
    def hold(self, waiting: Callable[[float], None] | None = None) -> Iterator[Callable[[], bool]]:
        """Waits for the lock and holds it.

        Args:
            waiting: Called with the seconds waited so far, after two seconds and then ever more seldom.

        Yields:
            A function that says whether the lock has been held without a break until now. A server that was
            restarted meanwhile has lost it.

        Raises:
            ValueError: If the lock file cannot be written or locked.
            sqlalchemy.exc.OperationalError: If the server cannot be reached.
        """
        with self._hold(Patience(waiting)) as intact:
            yield intact

    @contextmanager
    def _in_memory(self, patience: Patience) -> Iterator[Callable[[], bool]]:
        while not self._thread_lock.acquire(timeout=_TURN):
            patience.tell()
        try:
            yield lambda: True
        finally:
            self._thread_lock.release()

    @contextmanager
    def _beside_file(self, patience: Patience) -> Iterator[Callable[[], bool]]:
        path = sqlite_path(self.url)
        name = re.sub(r'[^\w.-]+', '_', self.name)[:80]
        with open_beside(path, f'{name}.{self.what}') as file, taking(file) as take:
            while not take():
                patience.tell()
                time.sleep(_PAUSES[patience.seconds > 1])
            yield lambda: True

    @contextmanager
    def _in_postgresql(self, patience: Patience) -> Iterator[Callable[[], bool]]:
        from sqlalchemy import text
        from sqlalchemy.exc import DBAPIError

        # Waiting in the server's queue is fair and asks nothing of it. The other limits, which a server may set,
        # must not end the lock.
        limits = text(
            f"SELECT set_config('lock_timeout', '{_TURN}s', true), set_config('statement_timeout', '0', true), "
            f"set_config('idle_in_transaction_session_timeout', '0', true)"
        )
        with self._connected() as connection:
            while True:
                try:
                    connection.execute(limits)
                    connection.execute(text('SELECT pg_advisory_xact_lock(:key)'), {'key': self._key})
                    break
                except DBAPIError as error:
                    state = getattr(error.orig, 'sqlstate', None) or getattr(error.orig, 'pgcode', None)
                    if state != _LOCK_NOT_AVAILABLE:
                        raise
                    connection.rollback()
                    patience.tell()
            yield lambda: _alive(connection)

    @contextmanager
    def _in_mysql(self, patience: Patience) -> Iterator[Callable[[], bool]]:
        from sqlalchemy import text

        with self._connected() as connection:
            while connection.scalar(text(f'SELECT GET_LOCK(:key, {_TURN})'), {'key': f'search{self._key}'}) != 1:
                patience.tell()
                time.sleep(_PAUSES[1])
            yield lambda: _alive(connection)

    @property
    def _key(self) -> int:
        """The lock's number among those of a database: 64 bits with a sign."""
        digest = hashlib.blake2b(f'sparsevit_mm {self.what} {self.name}'.encode(), digest_size=8).digest()
        return int.from_bytes(digest, 'big', signed=True)

    @cached_property
    def _engine(self) -> 'Engine':
        from sqlalchemy import NullPool, create_engine

        return create_engine(self.url, poolclass=NullPool, **engine_options(self.url))

    @contextmanager
    def _connected(self) -> Iterator['Connection']:
        """A connection for the time of a hold; closing it frees what it holds."""
        from sqlalchemy.exc import SQLAlchemyError

        connection = self._engine.connect()
        try:
            yield connection
        finally:
            with suppress(SQLAlchemyError):  # it was lost on the way, and the lock with it
                connection.close()


def _alive(connection: 'Connection') -> bool:
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        connection.execute(text('SELECT 1'))
    except SQLAlchemyError:
        return False
    return True
