"""A real PostgreSQL server for tests, without a trace on the machine."""

import atexit
import ctypes
import glob
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ['PostgresServer', 'postgres', 'postgres_url']

_PR_SET_PDEATHSIG = 1
_START = 30  # seconds
_SETTINGS = {
    'fsync': 'off',
    'full_page_writes': 'off',
    'shared_buffers': '16MB',
    'max_connections': '60',
    'listen_addresses': '127.0.0.1',
}


def _binaries() -> Path | None:
    """The folder of the server's programs, the newest one where there are several."""
    if found := shutil.which('postgres'):
        found = Path(found).resolve().parent
        if (found / 'initdb').exists():
            return found
    folders = [Path(path).parent for path in glob.glob('/usr/lib/postgresql/*/bin/initdb')]
    return max(folders, key=lambda folder: float(folder.parent.name), default=None)


def _user() -> str | None:
    """Whom the server runs as: it refuses to be root."""
    if os.geteuid():
        return None
    users = {entry.pw_name for entry in pwd.getpwall()}
    return 'postgres' if 'postgres' in users else 'nobody'


def _place(user: str | None) -> str | None:
    """Where clusters are made: in memory where there is room, for on disk even removing them takes seconds."""
    memory = Path('/dev/shm')
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**31:
        return str(memory)
    return '/tmp' if user else None  # another user may not enter the temporary folder of root


class PostgresServer:
    """A cluster in a folder of its own, which goes with this process however that ends.

    Raises:
        RuntimeError: If it cannot be made here.
    """

    def __init__(self) -> None:
        binaries = _binaries()
        if binaries is None:
            raise RuntimeError('no PostgreSQL server is installed')
        self._programs, self._user = binaries, _user()
        self._process: subprocess.Popen | None = None
        self._numbers = itertools.count()
        self.folder = Path(tempfile.mkdtemp(prefix='postgres-', dir=_place(self._user)))
        atexit.register(self.remove)
        if self._user:
            shutil.chown(self.folder, self._user)
        self._run('initdb', '-D', str(self.data), '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-sync')
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            self.port = free.getsockname()[1]
        self.start()

    @property
    def data(self) -> Path:
        """Folder of the cluster."""
        return self.folder / 'data'

    def url(self, database: str = 'postgres', user: str = 'postgres') -> str:
        """URL of a database, for SQLAlchemy."""
        return f'postgresql+psycopg://{user}@127.0.0.1:{self.port}/{database}'

    def new_database(self) -> str:
        """Makes an empty database and returns its URL."""
        name = f'test{next(self._numbers)}'
        self.execute(f'CREATE DATABASE {name}')
        return self.url(name)

    def execute(self, statement: str, database: str = 'postgres') -> list[tuple]:
        """Runs a statement outside of a transaction and returns the rows that it gives."""
        import psycopg

        url = self.url(database).replace('+psycopg', '')
        with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        options = [f'--{key}={value}' for key, value in _SETTINGS.items()]
        options += [f'--port={self.port}', f'--unix_socket_directories={self.folder}']
        with open(self.folder / 'log', 'ab') as log:
            self._process = subprocess.Popen(
                [self._programs / 'postgres', '-D', self.data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                preexec_fn=_dies_with_parent,
                **self._as_user(),
            )
        deadline = time.monotonic() + _START
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f'PostgreSQL does not start: {(self.folder / "log").read_text()[-2000:]}')
            time.sleep(0.05)

    def stop(self) -> None:
        """Stops the server at once, as a crash would: all its connections break."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_START)

    def remove(self) -> None:
        """Stops the server and removes all of it."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.remove)

    def _answers(self) -> bool:
        try:
            return self.execute('SELECT 1') == [(1,)]
        except Exception:
            return False

    def _run(self, program: str, *arguments: str) -> None:
        try:
            done = subprocess.run(
                [self._programs / program, *arguments],
                capture_output=True,
                text=True,
                cwd=self.folder,
                **self._as_user(),
            )
        except PermissionError as error:
            pytest.skip(f'PostgreSQL does not run as root, and root cannot become {self._user} here: {error}')
        if done.returncode:
            raise RuntimeError(f'{program} failed: {done.stderr[-2000:]}')

    def _as_user(self) -> dict:
        if self._user is None:
            return {}
        entry = pwd.getpwnam(self._user)
        return dict(user=entry.pw_uid, group=entry.pw_gid, extra_groups=[])


# Loaded before a process forks: a child must not import.
_LIBC = ctypes.CDLL(None) if sys.platform == 'linux' else None


def _dies_with_parent() -> None:
    """Runs in the child: the kernel stops the server when the tests are killed, too."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


@pytest.fixture(scope='session')
def postgres() -> Iterator[PostgresServer]:
    """A running server."""
    pytest.importorskip('psycopg', reason='psycopg is not installed')
    if _binaries() is None:
        pytest.skip('no PostgreSQL server is installed (Debian: apt-get install postgresql)')
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """An empty database of its own."""
    return postgres.new_database()
