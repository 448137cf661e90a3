import time

import optuna
import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from sparsevit_mm.search.storage.database import Patience, backend_of, engine_options, persist, shown


@pytest.fixture
def naps(monkeypatch):
    """Seconds slept, which pass at once."""
    now, naps = [1000.0], []

    def sleep(seconds):
        naps.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    monkeypatch.setattr(time, 'sleep', sleep)
    return naps


def failing(times, error):
    """A call that fails some times before it answers."""
    left = [times]

    def call():
        if left[0]:
            left[0] -= 1
            raise error
        return 'answer'

    return call


def away():
    return OperationalError('SELECT', {}, Exception('server closed the connection'))


def inside_optuna(cause):
    error = optuna.exceptions.StorageInternalError('An exception is raised during the commit.')
    error.__cause__ = cause
    return error


@pytest.mark.parametrize('error', [away(), inside_optuna(away())])
def test_persist_waits_ever_longer(naps, error):
    told = []
    answer = persist(failing(7, error), patience=600, waiting=lambda seconds, error: told.append(seconds))
    assert answer == 'answer'
    assert naps == [1, 2, 4, 8, 16, 30, 30]
    assert told == [0, 1, 3, 7, 15, 31, 61]


def test_persist_gives_up_when_its_patience_ends(naps):
    with pytest.raises(OperationalError):
        persist(failing(1000, away()), patience=10)
    assert sum(naps) == 10


@pytest.mark.parametrize(
    'error', [KeyError('bug'), inside_optuna(IntegrityError('INSERT', {}, Exception('null value')))]
)
def test_persist_does_not_repeat_what_was_refused(naps, error):
    with pytest.raises(type(error)):
        persist(failing(1, error), patience=600)
    assert naps == []


def test_patience_tells_ever_more_seldom(naps):
    told = []
    patience = Patience(told.append)
    for _ in range(600):
        time.sleep(1)
        patience.tell()
    assert told == [2, 4, 8, 16, 32, 64, *range(124, 601, 60)]


@pytest.mark.parametrize(
    ('url', 'backend'),
    [
        (None, 'memory'),
        ('sqlite://', 'memory'),
        ('sqlite:///a.sqlite3', 'sqlite'),
        ('postgresql+psycopg://me@host/db', 'postgresql'),
        ('mysql+pymysql://me@host/db', 'mysql'),
    ],
)
def test_backends(url, backend):
    assert backend_of(url) == backend


def test_passwords_are_not_shown():
    assert shown('postgresql+psycopg://me:secret@host/db') == 'postgresql+psycopg://me:***@host/db'


def test_what_a_url_says_about_its_connections_stands():
    options = engine_options('postgresql+psycopg://me@host/db?connect_timeout=3')
    assert 'connect_timeout' not in options['connect_args'] and options['connect_args']['keepalives_idle'] == 30
