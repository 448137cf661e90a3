import subprocess
import sys
import time
import warnings

import optuna
import pytest
from optuna.trial import TrialState
from postgres import postgres, postgres_url

from sparsevit_mm.search.fingerprint import differences, jsonable
from sparsevit_mm.search.storage import Presence, open_storage, sqlite_path, sqlite_url

__all__ = ['postgres', 'postgres_url']

JOIN = """
import sys
from sparsevit_mm.search.storage import Presence
presence = Presence(sys.argv[1])
print(presence.alone, flush=True)
input()
"""
OPEN = """
import sys
import optuna, psycopg, sqlalchemy
from sparsevit_mm.search.storage import open_storage
print('ready', flush=True)
input()
open_storage(sys.argv[1])
"""


def run(code, url):
    command = [sys.executable, '-W', 'ignore', '-c', code, url]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def refusal(url):
    """What is said about a storage that cannot be used: one line, without the password."""
    with pytest.raises(ValueError) as error:
        open_storage(url)
    message = str(error.value)
    assert '\n' not in message and 'secret' not in message
    return message


def test_sqlite_urls_round_trip(tmp_path):
    assert sqlite_path(sqlite_url(tmp_path / 'a.sqlite3')) == tmp_path / 'a.sqlite3'
    assert sqlite_path('postgresql+psycopg://user@host/db') is None
    assert sqlite_path('sqlite://') is None


@pytest.mark.parametrize(
    ('url', 'message'),
    [
        ('study.sqlite3', 'is not a database URL'),
        ('oracle+nothing://host/x', "of the kind 'oracle'"),
        ('postgresql+nothing://host/x', 'names a driver that does not exist'),
        ('sqlite:////proc/nowhere/study.sqlite3', 'cannot be opened for writing'),
    ],
)
def test_unusable_storage(url, message):
    with pytest.raises(ValueError, match=message):
        open_storage(url)


def test_file_that_is_no_database(tmp_path):
    (tmp_path / 'study.sqlite3').write_text('not a database, but long enough to be read as a page header' * 40)
    with pytest.raises(ValueError, match=r'study\.sqlite3 cannot be opened for writing'):
        open_storage(sqlite_url(tmp_path / 'study.sqlite3'))


def test_a_path_may_hold_braces(tmp_path):
    url = sqlite_url(tmp_path / '{run}.sqlite3')
    optuna.create_study(study_name='mine', storage=open_storage(url))
    assert (tmp_path / '{run}.sqlite3').exists()
    assert optuna.get_all_study_names(open_storage(url)) == ['mine']


def test_heartbeats_are_those_asked_for(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # of Optuna's, that they are experimental
        storage = open_storage(sqlite_url(tmp_path / 'study.sqlite3'), heartbeat=7, grace=30)
    assert (storage.get_heartbeat_interval(), storage.grace_period) == (7, 30)
    assert open_storage(sqlite_url(tmp_path / 'study.sqlite3')).get_heartbeat_interval() is None


def test_a_driver_that_is_missing():
    pytest.importorskip('sqlalchemy')
    message = refusal('postgresql+pg8000://user:secret@host/db')
    assert 'needs a database driver that is not installed' in message and 'psycopg[binary]' in message


def test_servers_that_cannot_be_reached(postgres):
    assert 'Check the name of the host' in refusal('postgresql+psycopg://me:secret@no-such-host.invalid/db')
    closed = postgres.url().replace(f':{postgres.port}', ':1').replace('postgres@', 'me:secret@')
    assert 'Connection refused. Check that the server runs' in refusal(closed)


def test_rights_that_are_missing(postgres):
    assert 'database "missing" does not exist. Have it created' in refusal(postgres.url('missing'))
    assert 'role "missing" does not exist. Check the user' in refusal(postgres.url(user='missing'))

    url = postgres.new_database()
    database = url.rpartition('/')[2]
    postgres.execute("CREATE ROLE guest LOGIN PASSWORD 'right'")
    guest = postgres.url(database, 'guest')
    assert 'permission denied for schema public. Give a role' in refusal(guest)
    open_storage(url)
    postgres.execute('GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest', database)
    assert 'permission denied for table trials. Give a role' in refusal(guest)

    rules = postgres.data / 'pg_hba.conf'
    before = rules.read_text()
    rules.write_text(f'host all guest 127.0.0.1/32 scram-sha-256\n{before}')
    postgres.execute('SELECT pg_reload_conf()')
    try:
        deadline = time.monotonic() + 10
        while 'password' not in (message := refusal(guest.replace('guest@', 'guest:secret@'))):
            assert time.monotonic() < deadline
        assert 'password authentication failed for user "guest". Check the user and the password' in message
    finally:
        rules.write_text(before)
        postgres.execute('SELECT pg_reload_conf()')


@pytest.mark.parametrize('empty', [True, False])
def test_a_read_only_server_is_found_out_at_opening(postgres, postgres_url, empty):
    if not empty:
        open_storage(postgres_url)
    postgres.execute(f'ALTER DATABASE {postgres_url.rpartition("/")[2]} SET default_transaction_read_only = on')
    message = refusal(postgres_url)
    assert 'in a read-only transaction. Give a primary server' in message


def test_a_server_without_room_says_what_to_do(postgres, postgres_url):
    postgres.execute('CREATE ROLE crowd LOGIN CONNECTION LIMIT 60')
    database = postgres_url.rpartition('/')[2]
    import psycopg

    held = []
    try:
        with pytest.raises(psycopg.OperationalError):
            while True:
                held.append(psycopg.connect(postgres.url(database, 'crowd').replace('+psycopg', '')))
        assert 'Have max_connections of the server raised' in refusal(postgres.url(database, 'crowd'))
    finally:
        for connection in held:
            connection.close()


def test_a_worker_keeps_one_connection(postgres, postgres_url):
    storage = open_storage(postgres_url)
    study = optuna.create_study(storage=storage)
    study.tell(study.ask(), 1.0)
    database = postgres_url.rpartition('/')[2]
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"
    deadline = time.monotonic() + 10
    while postgres.execute(count) != [(1,)] and time.monotonic() < deadline:
        time.sleep(0.05)  # closed ones take a moment to go
    assert postgres.execute(count) == [(1,)]


@pytest.mark.filterwarnings('ignore:Heartbeat of storage is supposed')
def test_heartbeats_do_not_depend_on_the_time_zone(postgres, postgres_url, monkeypatch):
    """A clock that is put back or forward, or a worker elsewhere, makes no trial lost."""
    storage = open_storage(postgres_url, heartbeat=1, grace=60)
    study = optuna.create_study(study_name='mine', storage=storage)
    trial = study.ask()
    storage.record_heartbeat(trial._trial_id)
    for zone in ('America/Los_Angeles', 'Asia/Tokyo'):
        postgres.execute(f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET timezone = '{zone}'")
        monkeypatch.setenv('PGTZ', zone)
        other = open_storage(postgres_url, heartbeat=1, grace=60)
        assert other._get_stale_trial_ids(study._study_id) == []
        other.record_heartbeat(trial._trial_id)
        assert storage._get_stale_trial_ids(study._study_id) == []


def test_processes_may_make_the_tables_at_once(postgres_url):
    workers = [run(OPEN, postgres_url) for _ in range(3)]
    assert [worker.stdout.readline() for worker in workers] == ['ready\n'] * 3
    for worker in workers:
        worker.stdin.write('\n')
        worker.stdin.flush()
    errors = [worker.communicate(timeout=60)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 3, errors


def test_a_restart_of_the_server_is_survived(postgres):
    storage = open_storage(postgres.new_database())
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    postgres.stop()
    postgres.start()
    study.tell(trial, 1.0)
    assert study.trials[0].state == TrialState.COMPLETE


def test_presence_tells_who_is_alone(tmp_path):
    url = sqlite_url(tmp_path / 'new' / 'study.sqlite3')
    with run(JOIN, url) as first:
        assert first.stdout.readline() == 'True\n'
        with run(JOIN, url) as second:
            assert second.stdout.readline() == 'False\n'
            first.kill()
            first.wait()
            third = Presence(url)  # the second one is still there
            assert not third.alone
            third.release()
            second.kill()
    presence = Presence(url)
    assert presence.alone
    assert not Presence(url).alone
    presence.release()


def test_only_one_of_many_that_come_at_once_is_alone(tmp_path):
    url = sqlite_url(tmp_path / 'study.sqlite3')
    workers = [run(JOIN, url) for _ in range(4)]
    answers = [worker.stdout.readline() for worker in workers]
    for worker in workers:
        worker.kill()
        worker.communicate()
    assert sorted(answers) == ['False\n'] * 3 + ['True\n']


def test_presence_without_a_file():
    assert Presence(None).alone
    assert not Presence('postgresql+psycopg://user@host/db').alone
    with pytest.raises(ValueError, match='is not a database URL'):
        Presence('study.sqlite3')


def test_presence_in_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match='cannot be written'):
        Presence(sqlite_url(tmp_path / 'file' / 'study.sqlite3'))


def test_differences_name_leaves():
    stored = {'a': {'b': [1, 2], 'c': 'x'}, 'list': [{'type': 'A'}], 'gone': 1}
    assert differences(stored, stored) == []
    present = {'a': {'b': [1, 3], 'c': 'x'}, 'list': [{'type': 'B'}], 'new': None}
    assert differences(stored, present) == [
        'a.b is [1, 2] in the study and [1, 3] now',
        "list.0.type is 'A' in the study and 'B' now",
        'gone is 1 in the study and nothing now',
        'new is nothing in the study and None now',
    ]


def test_jsonable_is_stable():
    value = {'t': (1, 2.5), 's': {'b', 'a'}, 'k': int, 'f': len, 'n': None, 3: True}
    assert jsonable(value) == {
        't': [1, 2.5],
        's': ['a', 'b'],
        'k': 'builtins.int',
        'f': 'builtins.len',
        'n': None,
        '3': True,
    }
