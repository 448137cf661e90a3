import subprocess
import sys

import pytest

from sparsevit_mm.search.storage import StudyLock, differences, jsonable, open_storage, sqlite_path, sqlite_url


def test_sqlite_urls_round_trip(tmp_path):
    assert sqlite_path(sqlite_url(tmp_path / 'a.sqlite3')) == tmp_path / 'a.sqlite3'
    assert sqlite_path('postgresql+psycopg://user@host/db') is None
    assert sqlite_path('sqlite://') is None


@pytest.mark.parametrize(
    ('url', 'message'),
    [
        ('study.sqlite3', 'is not a database URL'),
        ('oracle+nothing://host/x', 'is not a database URL|driver that is not installed|cannot be opened'),
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


def test_password_is_not_shown():
    with pytest.raises(ValueError) as error:
        open_storage('nonsense://user:secret@host/db')
    assert 'secret' not in str(error.value)


def test_second_process_is_kept_off_as_long_as_the_first_lives(tmp_path):
    url = sqlite_url(tmp_path / 'study.sqlite3')
    code = (
        f'from sparsevit_mm.search.storage import StudyLock; lock = StudyLock({url!r}); print(1, flush=True); input()'
    )
    command = [sys.executable, '-W', 'ignore', '-c', code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        with pytest.raises(ValueError, match=f'in use by another search .process {process.pid}'):
            StudyLock(url)
        process.kill()
    lock = StudyLock(url)
    assert lock.held
    lock.release()
    assert not lock.held


def test_lock_in_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match='cannot be written'):
        StudyLock(sqlite_url(tmp_path / 'file' / 'study.sqlite3'))


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
