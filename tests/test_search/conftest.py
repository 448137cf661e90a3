import pytest
from quick_sqlite import quick_sqlite
from search_problem import LinearCost

from sparsevit_mm.sparsity import SparsityLayout, SparsitySpace

__all__ = ['quick_sqlite']


@pytest.fixture
def space():
    """Three sites in two stages over four choices: 10 * 4 = 40 settings."""
    layout = SparsityLayout(('stage1.pair1', 'stage1.pair2', 'stage2.pair1'), (2, 1))
    return SparsitySpace(layout, (0.0, 0.2, 0.5, 0.8))


@pytest.fixture
def cost():
    return LinearCost()
