"""SQLite that does not wait for the disk: no power is cut in a test."""

import pytest
import sqlalchemy

__all__ = ['quick_sqlite']


@pytest.fixture(autouse=True)
def quick_sqlite():
    def relax(connection, record):
        if type(connection).__module__.startswith('sqlite3'):
            connection.execute('PRAGMA synchronous = OFF')

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, 'connect', relax)
    yield
    sqlalchemy.event.remove(sqlalchemy.engine.Engine, 'connect', relax)
