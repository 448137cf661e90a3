"""Databases: their URLs, how they are connected to, and patience with one that is away for a while."""

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

__all__ = ['Patience', 'backend_of', 'engine_options', 'persist', 'reason_of', 'shown', 'sqlite_path', 'sqlite_url']

T = TypeVar('T')

# A peer that does not answer for a minute is gone: idle seconds before the first probe, between probes, and how many.
_IDLE, _INTERVAL, _COUNT = 30, 10, 3
_LIBPQ = {
    'connect_timeout': 10,
    'keepalives': 1,
    'keepalives_idle': _IDLE,
    'keepalives_interval': _INTERVAL,
    'keepalives_count': _COUNT,
}
# Heartbeats are compared as local time of the session, so it must be one without daylight saving. The probes are the
# server's own: without them it keeps the locks of a machine that lost its power for hours.
_AT_CONNECT = {
    'postgresql': (
        "SELECT set_config('TimeZone', 'UTC', false), "
        f"set_config('tcp_keepalives_idle', '{_IDLE}', false), "
        f"set_config('tcp_keepalives_interval', '{_INTERVAL}', false), "
        f"set_config('tcp_keepalives_count', '{_COUNT}', false)"
    ),
    'mysql': "SET time_zone = '+00:00'",
    'mariadb': "SET time_zone = '+00:00'",
}


def sqlite_url(path: str | os.PathLike) -> str:
    """The URL of a SQLite file."""
    return f'sqlite:///{Path(path).resolve()}'


def sqlite_path(url: str) -> Path | None:
    """The file behind a SQLite URL, None for memory and for servers."""
    driver, _, path = url.partition('://')
    path = path.partition('?')[0][1:]
    return Path(path) if driver.split('+')[0] == 'sqlite' and path and path != ':memory:' else None


def backend_of(url: str | None) -> str:
    """The kind of database: 'memory' where there is no URL, else 'sqlite' for a file or the name of a server.

    Raises:
        ValueError: If it is no URL of a database.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    if url is None:
        return 'memory'
    try:
        backend = make_url(url).get_backend_name()
    except ArgumentError as error:
        raise ValueError(
            f'storage {url!r} is not a database URL. Write sqlite:///path/to/study.sqlite3 or '
            f'postgresql+psycopg://user@host/database.'
        ) from error
    return 'memory' if backend == 'sqlite' and sqlite_path(url) is None else backend


def shown(url: str | None) -> str:
    """A URL fit for a message: without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    if url is None:
        return 'in memory'
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return repr(url)


def reason_of(error: BaseException) -> str:
    """What the database itself said, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip('.')


def engine_options(url: str) -> dict[str, Any]:
    """What SQLAlchemy's ``create_engine`` is given beside a URL, pooling aside.

    What the user put into the URL's query stands.
    """
    from sqlalchemy.engine import make_url

    backend = backend_of(url)
    if backend in ('memory', 'sqlite'):
        # A writer of another process is waited for instead of failing with "database is locked".
        return {'connect_args': {'timeout': 60}}
    parsed, arguments = make_url(url), {}
    driver = parsed.get_dialect().driver
    if driver in ('psycopg', 'psycopg2'):
        arguments = dict(_LIBPQ)
    if driver == 'psycopg':
        arguments['prepare_threshold'] = None  # a pool between may give the next transaction to another session
    options: dict[str, Any] = {'connect_args': {k: v for k, v in arguments.items() if k not in parsed.query}}
    if backend in _AT_CONNECT:
        options['pool_events'] = [(_runs(_AT_CONNECT[backend]), 'connect')]
    return options


def _runs(statement: str) -> Callable[[Any, Any], None]:
    """A listener that runs a statement on every new connection."""

    def connected(connection: Any, record: Any) -> None:
        with closing(connection.cursor()) as cursor:
            cursor.execute(statement)
        connection.commit()

    return connected


class Patience:
    """Tells how long something has been waited for: after two seconds, then ever more seldom.

    Args:
        waiting: Called with the seconds waited so far.
    """

    FIRST, SELDOM = 2.0, 60.0

    def __init__(self, waiting: Callable[[float], None] | None = None) -> None:
        self._waiting, self._begun, self._due = waiting, time.monotonic(), self.FIRST

    @property
    def seconds(self) -> float:
        """How long it has been."""
        return time.monotonic() - self._begun

    def tell(self) -> None:
        """Calls ``waiting`` if it is time to."""
        seconds = self.seconds
        if self._waiting is not None and seconds >= self._due:
            self._due = seconds + min(seconds, self.SELDOM)
            self._waiting(seconds)


def persist(call: Callable[[], T], *, patience: float, waiting: Callable[[float, Exception], None] | None = None) -> T:
    """Calls until the database answers, with pauses that grow from 1 to 30 seconds.

    A call may have been carried out although its answer was lost, so it must bear being repeated.

    Args:
        call: What is tried.
        patience: Seconds after which it is given up.
        waiting: Called before every pause with the seconds passed and the error.

    Returns:
        What the call returned.

    Raises:
        sqlalchemy.exc.OperationalError: The last error, once patience is at its end.
        optuna.exceptions.StorageInternalError: Likewise, from inside Optuna.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import OperationalError

    begun, pause = time.monotonic(), 1.0
    while True:
        try:
            return call()
        except (OperationalError, StorageInternalError) as error:
            passed = time.monotonic() - begun
            if passed >= patience or not _may_pass(error):
                raise
            if waiting is not None:
                waiting(passed, error)
            time.sleep(min(pause, patience - passed))
            pause = min(2 * pause, 30.0)


def _may_pass(error: Exception) -> bool:
    """Whether it can be another time: not where the database understood and refused what it was asked."""
    from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

    return not isinstance(error.__cause__, DataError | IntegrityError | ProgrammingError)
