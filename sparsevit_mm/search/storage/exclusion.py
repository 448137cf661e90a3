"""One process at a time: locks that are freed by the kernel or the server when their holder dies."""

import hashlib
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING

from .database import Patience, backend_of, engine_options, shown, sqlite_path
from .file_lock import open_beside, taking

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

__all__ = ['Exclusion']

# Seconds between two tries: a part of the time waited so far, within bounds. Trying costs a file nothing.
_OF_WAITED = 0.05
_SHORTEST, _LONGEST, _LONGEST_FOR_FILES = 0.01, 0.25, 0.05

# A way to try for a lock, and to find out later whether it is still held. At the end it is freed.
Tries = tuple[Callable[[], bool], Callable[[], bool]]


class Exclusion:
    """Lets one process at a time at a study's bookkeeping; freed by the kernel or the server when the holder dies.

    A study in memory is guarded by a thread lock, one in a SQLite file by a file lock beside it, one on a server
    by an advisory lock on a connection of its own. PostgreSQL holds it for one transaction, and who waits is in none,
    so that a pool of connections may stand between. Threads exclude each other too; it cannot be taken twice by one.

    Args:
        url: URL of the storage, None for memory.
        name: Name of the study.
        what: What is guarded; locks of different kinds are independent.

    Raises:
        ValueError: If it is no URL of a database, or of a kind without such locks.
    """

    def __init__(self, url: str | None, name: str, what: str = 'ask') -> None:
        ways = {
            'memory': self._in_memory,
            'sqlite': self._beside_file,
            'postgresql': self._in_postgresql,
            'mysql': self._in_mysql,
            'mariadb': self._in_mysql,
        }
        backend = backend_of(url)
        if backend not in ways:
            raise ValueError(
                f'storage {shown(url)} is a database of the kind {backend!r}, which a search cannot use: its workers '
                f'need locks that end with their holder. Use SQLite on one machine, PostgreSQL or MySQL on several.'
            )
        self.url, self.name, self.what = url, name, what
        self._way: Callable[[], AbstractContextManager[Tries]] = ways[backend]
        self._longest = _LONGEST_FOR_FILES if backend == 'sqlite' else _LONGEST
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
        patience = Patience(waiting)
        with self._way() as (take, intact):
            while not take():
                patience.tell()
                pause = min(max(_SHORTEST, _OF_WAITED * patience.seconds), self._longest)
                time.sleep(pause * random.uniform(0.5, 1.5))
            yield intact

    @contextmanager
    def _in_memory(self) -> Iterator[Tries]:
        with ExitStack() as held:

            def take() -> bool:
                taken = self._thread_lock.acquire(timeout=_LONGEST)
                if taken:
                    held.callback(self._thread_lock.release)
                return taken

            yield take, lambda: True

    @contextmanager
    def _beside_file(self) -> Iterator[Tries]:
        name = re.sub(r'[^\w.-]+', '_', self.name)[:80]
        with open_beside(sqlite_path(self.url), f'{name}.{self.what}') as file, taking(file) as take:
            yield take, lambda: True

    @contextmanager
    def _in_postgresql(self) -> Iterator[Tries]:
        from sqlalchemy import text

        lock = text('SELECT pg_try_advisory_xact_lock(:key)')
        # What a server may have been told to end must not end with the lock in it.
        no_limits = text(
            "SELECT set_config('statement_timeout', '0', true), "
            "set_config('idle_in_transaction_session_timeout', '0', true)"
        )

        def take() -> bool:
            taken = connection.scalar(lock, {'key': self._key})
            if taken:
                connection.execute(no_limits)
            else:
                connection.rollback()
            return taken

        with self._connected() as connection:
            yield take, lambda: _alive(connection)

    @contextmanager
    def _in_mysql(self) -> Iterator[Tries]:
        from sqlalchemy import text

        lock = text('SELECT GET_LOCK(:key, 0)')
        with self._connected() as connection:
            yield (
                lambda: connection.scalar(lock, {'key': f'sparsevit_mm {self._key}'}) == 1,
                lambda: _alive(connection),
            )

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
