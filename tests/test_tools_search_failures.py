"""What the search tool says, and what is kept, where the machine or the model lets it down."""

import os
import shutil
import socket
import subprocess
from contextlib import suppress

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from postgres import postgres, postgres_url
from quick_sqlite import quick_sqlite
from scripts import load_tool
from tiny_segmentation import make_project

from sparsevit_mm.cli import run_tool
from sparsevit_mm.search import SparsityStudy
from sparsevit_mm.search.storage import sqlite_url

__all__ = ['postgres', 'postgres_url', 'quick_sqlite']


@pytest.fixture(scope='module')
def tool():
    return load_tool('search_sparsity')


@HOOKS.register_module(force=True)
class Happens(Hook):
    """Has something happen when an evaluation begins, by its number from 1."""

    evaluations, happens = 0, None

    def before_test_epoch(self, runner):
        Happens.evaluations += 1
        if Happens.happens:
            Happens.happens(Happens.evaluations)


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tiny')
    stock, checkpoint = make_project(folder)
    config = folder / 'with_a_hook.py'
    config.write_text(f"_base_ = {str(stock)!r}\ncustom_hooks = [dict(type='Happens')]\n")
    return config, checkpoint


@pytest.fixture
def search(project, tool, capsys, monkeypatch):
    """Runs the tool; its status, and the last line that it said on stderr."""

    def run(work_dir, *options, happens=None):
        monkeypatch.setattr(Happens, 'evaluations', 0)
        monkeypatch.setattr(Happens, 'happens', happens)
        words = [*project, '--budget', '0.75', '--budget-metric', 'macs', '--choices', '0', '0.5', '0.8']
        status = run_tool(tool.main, [str(word) for word in [*words, '--work-dir', work_dir, *options]])
        return status, (capsys.readouterr().err.splitlines() or [''])[-1]

    return run


def candidates(work_dir):
    return (work_dir / 'candidates.csv').read_text().splitlines()[1:]


class TestFailingEvaluations:
    @staticmethod
    def failing(*numbers):
        def happens(number):
            if number in numbers:
                raise RuntimeError('CUDA out of memory')

        return happens

    def test_one_is_noted_and_the_search_goes_on(self, search, tmp_path):
        assert search(tmp_path, '--trials', 3, happens=self.failing(3))[0] == 0
        assert len(candidates(tmp_path)) == 1 + 3
        assert 'out of memory' in next(tmp_path.rglob('*.log')).read_text()

    def test_three_in_a_row_end_it_with_the_cause(self, search, tmp_path):
        status, error = search(tmp_path, '--trials', 9, happens=self.failing(3, 4, 5))
        assert status == 2 and error.startswith(
            'error: 3 evaluations in a row failed, the last one: RuntimeError: CUDA'
        )
        assert '--resume' in error and '--debug' in error
        assert len(candidates(tmp_path)) == 1 + 1 and (tmp_path / 'report.html').exists()


class TestStorage:
    def test_server_that_does_not_answer(self, search, tmp_path):
        pytest.importorskip('psycopg')
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        url = f'postgresql+psycopg://searcher:secret@127.0.0.1:{port}/studies'
        status, error = search(tmp_path, '--storage', url)
        assert status == 2 and error.startswith('error: storage postgresql+psycopg://searcher:***@127.0.0.1')
        assert 'Check that the server runs' in error

    def test_role_that_may_only_read(self, search, tmp_path, postgres, postgres_url):
        assert search(tmp_path / 'writer', '--storage', postgres_url, '--trials', 1)[0] == 0
        database = postgres_url.rpartition('/')[2]
        reader = f'reader_of_{database}'
        postgres.execute(f'CREATE ROLE {reader} LOGIN')
        postgres.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}', database)
        url = postgres.url(database, reader)
        status, error = search(tmp_path / 'reader', '--storage', url, '--trials', 2, '--resume')
        assert status == 2 and error.startswith(f'error: storage {url} cannot be opened for writing')
        assert 'Give a role that may' in error

    @pytest.fixture
    def frozen(self):
        """Makes files and folders unchangeable, for root as well."""
        done = []

        def freeze(path):
            if os.geteuid():
                path.chmod(0o555)
            elif not shutil.which('chattr') or subprocess.run(['chattr', '+i', path], capture_output=True).returncode:
                pytest.skip('root may write everywhere, and chattr does not work here')
            done.append(path)

        yield freeze
        for path in done:
            if os.geteuid():
                path.chmod(0o755)
            else:
                subprocess.run(['chattr', '-i', path], check=True)

    def test_read_only_work_dir(self, search, tmp_path, frozen):
        (tmp_path / 'frozen').mkdir()
        frozen(tmp_path / 'frozen')
        status, error = search(tmp_path / 'frozen' / 'work')
        assert status == 2 and error.startswith('error: ') and str(tmp_path / 'frozen') in error

    def test_read_only_study(self, search, tmp_path, frozen):
        assert search(tmp_path, '--trials', 1)[0] == 0
        frozen(tmp_path / 'study.sqlite3')
        status, error = search(tmp_path, '--trials', 2, '--resume')
        assert status == 2 and 'study.sqlite3 is read-only' in error


class TestFullDisk:
    @pytest.fixture
    def disk(self, tmp_path):
        """A disk of 4 MB."""
        path = tmp_path / 'disk'
        path.mkdir()
        mount = ['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', str(path)]
        if not shutil.which('mount') or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip('a small disk cannot be mounted without the rights to')
        yield path
        subprocess.run(['umount', '-l', str(path)], check=True)

    @staticmethod
    def filled_at(number, disk):
        def happens(evaluation):
            if evaluation == number:
                with open(disk / 'filler', 'wb', buffering=0) as file, suppress(OSError):
                    while file.write(bytes(1024)):
                        pass

        return happens

    def test_of_the_study(self, search, disk, monkeypatch):
        monkeypatch.setitem(SparsityStudy.__init__.__kwdefaults__, 'patience', 2.0)
        status, error = search(disk / 'work', '--trials', 5, happens=self.filled_at(4, disk))
        assert status == 2 and 'storage of the study failed: database or disk is full' in error
        assert 'room on the disk' in error and '--resume' in error
        (disk / 'filler').unlink()
        assert search(disk / 'work', '--trials', 5, '--resume')[0] == 0
        # Three were told before, the dense one among them; of the fourth the result may have been stored.
        assert Happens.evaluations in (6 - 3, 6 - 4)
        assert len(candidates(disk / 'work')) == 1 + 5

    def test_of_the_work_dir_alone(self, search, disk, tmp_path):
        storage = ['--storage', sqlite_url(tmp_path / 'study.sqlite3'), '--trials', 5]
        status, error = search(disk / 'work', *storage, happens=self.filled_at(4, disk))
        assert status == 2 and f'the results cannot be written to {disk / "work"}' in error and '--resume' in error
        assert Happens.evaluations == 6, 'the search itself went on'
        (disk / 'filler').unlink()
        assert search(disk / 'work', *storage, '--resume')[0] == 0
        assert Happens.evaluations == 0 and len(candidates(disk / 'work')) == 1 + 5

    def test_of_a_file_that_may_not_grow(self, search, tmp_path, monkeypatch):
        """The same where nothing can be mounted: the system refuses to write beyond a size."""
        resource = pytest.importorskip('resource')
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        monkeypatch.setitem(SparsityStudy.__init__.__kwdefaults__, 'patience', 2.0)

        def happens(evaluation):
            if evaluation == 4:
                resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))

        try:
            status, error = search(tmp_path, '--trials', 5, happens=happens)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert status == 2 and 'storage of the study failed: disk I/O error' in error and '--resume' in error
        assert search(tmp_path, '--trials', 5, '--resume')[0] == 0
        assert Happens.evaluations in (6 - 3, 6 - 4) and len(candidates(tmp_path)) == 1 + 5
