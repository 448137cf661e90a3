import pytest
import sqlalchemy
from search_problem import ExactCost, NoisyCost

from sparsevit_mm.sparsity import SparsityLayout, SparsitySpace


@pytest.fixture(autouse=True)
def quick_sqlite():
    """SQLite that does not wait for the disk: no power is cut in a test."""

    def relax(connection, record):
        if type(connection).__module__.startswith('sqlite3'):
            connection.execute('PRAGMA synchronous = OFF')

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, 'connect', relax)
    yield
    sqlalchemy.event.remove(sqlalchemy.engine.Engine, 'connect', relax)


@pytest.fixture
def space():
    """Three sites in two stages over four choices: 10 * 4 = 40 settings."""
    layout = SparsityLayout(('stage1.pair1', 'stage1.pair2', 'stage2.pair1'), (2, 1))
    return SparsitySpace(layout, (0.0, 0.2, 0.5, 0.8))


@pytest.fixture
def cost():
    return ExactCost()


@pytest.fixture
def noisy_cost():
    return NoisyCost()
