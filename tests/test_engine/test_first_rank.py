"""What the first rank does for all, in real processes."""

import time
from datetime import timedelta

import pytest
from mmengine.dist import get_rank
from torch.distributed.distributed_c10d import _set_pg_timeout
from two_processes import run_in_two_processes

from sparsevit_mm.engine.loops.first_rank import FirstRank


def test_one_process_calls_itself():
    assert FirstRank()(lambda: 5) == 5
    with pytest.raises(ValueError, match='wrong'):
        FirstRank()(fail)


def fail():
    raise ValueError('wrong')


def call(rank):
    on_first = FirstRank()
    called = []
    assert on_first(lambda: (called.append(1), get_rank())[1]) == 0
    assert len(called) == (rank == 0)
    with pytest.raises(ValueError, match='wrong'):
        on_first(fail)
    assert on_first(lambda: 'goes on') == 'goes on'


def wait(rank):
    _set_pg_timeout(timedelta(seconds=1))
    assert FirstRank()(lambda: time.sleep(3) or 'done') == 'done'


@pytest.mark.parametrize('work', [call, wait])
def test_all_ranks_get_the_result_however_long_it_takes(work):
    run_in_two_processes(work)
