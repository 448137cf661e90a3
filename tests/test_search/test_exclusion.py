import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from postgres import postgres, postgres_url
from sqlalchemy.exc import OperationalError

from sparsevit_mm.search.storage.database import sqlite_url
from sparsevit_mm.search.storage.exclusion import Exclusion

__all__ = ['postgres', 'postgres_url']

HOLD = """
import sys, time
from sparsevit_mm.search.storage.exclusion import Exclusion
url, name, what, seconds = sys.argv[1:]
with Exclusion(url, name, what).hold():
    print('held', flush=True)
    time.sleep(float(seconds))
"""
# Each process reads a number, waits, and writes it back with one added.
COUNT = """
import sys, time
from pathlib import Path
from sparsevit_mm.search.storage.exclusion import Exclusion
url, path = sys.argv[1], Path(sys.argv[2])
exclusion = Exclusion(url, 'a study: of "mine"/1')
for _ in range(10):
    with exclusion.hold():
        number = int(path.read_text())
        time.sleep(0.005)
        path.write_text(str(number + 1))
"""


def run(code, *arguments):
    return subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code, *arguments], stdout=subprocess.PIPE)


@pytest.fixture(params=['sqlite', 'postgresql'])
def url(request, tmp_path):
    if request.param == 'sqlite':
        return sqlite_url(tmp_path / 'new' / 'study.sqlite3')
    return request.getfixturevalue('postgres_url')


@contextlib.contextmanager
def held_elsewhere(url, name='study', what='ask', seconds=60):
    with run(HOLD, url, name, what, str(seconds)) as process:
        assert process.stdout.readline() == b'held\n'
        try:
            yield process
        finally:
            process.kill()


def takes(exclusion, within):
    """Whether a lock can be had within some seconds."""
    got = threading.Event()

    def take():
        with exclusion.hold():
            got.set()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    return got.wait(within)


def test_processes_take_turns(url, tmp_path):
    counter = tmp_path / 'counter'
    counter.write_text('0')
    with run(COUNT, url, str(counter)) as first, run(COUNT, url, str(counter)) as second:
        assert (first.wait(60), second.wait(60)) == (0, 0)
    assert counter.read_text() == '20'


@pytest.mark.parametrize('memory', [True, False])
def test_threads_take_turns(memory, request):
    exclusion = Exclusion(None if memory else request.getfixturevalue('postgres_url'), 'study')
    inside, most = [], []

    def work():
        for _ in range(5):
            with exclusion.hold():
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.002)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(most) == 20 and max(most) == 1


def test_a_killed_holder_lets_go(url):
    with held_elsewhere(url) as holder:
        assert not takes(Exclusion(url, 'study'), 0.5)
        os.kill(holder.pid, signal.SIGKILL)
        assert takes(Exclusion(url, 'study'), 10)


def test_other_names_and_kinds_are_independent(url):
    with held_elsewhere(url, 'study', 'setup'):
        assert takes(Exclusion(url, 'study', 'ask'), 10)
        assert takes(Exclusion(url, 'other', 'setup'), 10)
        assert not takes(Exclusion(url, 'study', 'setup'), 0.3)


def test_who_waits_hears_of_it(url):
    told = []
    with held_elsewhere(url, seconds=3), Exclusion(url, 'study').hold(told.append):
        pass
    assert len(told) == 1 and 2 <= told[0] < 5


def test_an_error_inside_frees_the_lock(url):
    exclusion = Exclusion(url, 'study')
    with pytest.raises(ZeroDivisionError), exclusion.hold():
        1 / 0  # noqa: B018
    assert takes(exclusion, 10)


def test_a_restarted_server_has_lost_the_lock(postgres):
    url = postgres.new_database()
    exclusion = Exclusion(url, 'study')
    with exclusion.hold() as intact:
        assert intact()
        postgres.stop()
        try:
            assert not intact()
            with pytest.raises(OperationalError), Exclusion(url, 'study').hold():
                pass
        finally:
            postgres.start()
        assert not intact()
        assert takes(Exclusion(url, 'study'), 10)
    with exclusion.hold() as intact:
        assert intact()


def test_limits_of_a_server_do_not_end_the_lock(postgres, postgres_url):
    database = postgres_url.rpartition('/')[2]
    for limit in ('statement_timeout', 'idle_in_transaction_session_timeout', 'lock_timeout'):
        postgres.execute(f"ALTER DATABASE {database} SET {limit} = '300ms'")
    with held_elsewhere(postgres_url, seconds=1.5), Exclusion(postgres_url, 'study').hold() as intact:
        time.sleep(0.8)
        assert intact()


def test_no_connection_is_left_behind(postgres, postgres_url):
    database = postgres_url.rpartition('/')[2]
    exclusion = Exclusion(postgres_url, 'study')
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"
    with exclusion.hold():
        assert postgres.execute(count) == [(1,)]
    deadline = time.monotonic() + 10
    while postgres.execute(count) != [(0,)] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert postgres.execute(count) == [(0,)]


def test_without_fcntl_a_file_is_locked_too(tmp_path, monkeypatch):
    import filelock  # noqa: F401 - before fcntl is hidden from it

    monkeypatch.setitem(sys.modules, 'fcntl', None)
    url = sqlite_url(tmp_path / 'study.sqlite3')
    with Exclusion(url, 'study').hold():
        assert not takes(Exclusion(url, 'study'), 0.3)
    assert takes(Exclusion(url, 'study'), 10)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').touch()
    exclusion = Exclusion(sqlite_url(tmp_path / 'file' / 'study.sqlite3'), 'study')
    with pytest.raises(ValueError, match='cannot be written'), exclusion.hold():
        pass


@pytest.mark.parametrize(
    ('url', 'message'),
    [
        ('oracle://user:secret@host/x', "of the kind 'oracle'.*Use SQLite on one machine, PostgreSQL or MySQL"),
        ('study.sqlite3', 'is not a database URL'),
    ],
)
def test_other_databases_are_refused(url, message):
    with pytest.raises(ValueError, match=message) as error:
        Exclusion(url, 'study')
    assert 'secret' not in str(error.value)
