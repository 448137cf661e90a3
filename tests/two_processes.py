"""Two real processes as one data-parallel group on the CPU."""

import os
import tempfile
import traceback
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from forked import forking

__all__ = ['run_in_two_processes']


def run_in_two_processes(work: Callable[..., None], *args: object) -> None:
    """Calls ``work(rank, *args)`` in two processes that have joined a gloo group; raises if one fails.

    They meet in a file: a free port that is looked up can be taken by another test before they are there.
    """
    how = forking().get_start_method()
    with tempfile.TemporaryDirectory() as folder:
        arguments = (f'file://{folder}/rendezvous', work, args)
        mp.start_processes(_join_and_work, arguments, nprocs=2, start_method=how)


def _join_and_work(rank: int, meeting: str, work: Callable[..., None], args: tuple) -> None:
    """Ends the process itself: a group that is destroyed while its threads let go of work can wait for ever.

    Its destructor joins the threads and holds the interpreter lock, which they need.
    """
    code = 1
    try:
        torch.set_num_threads(1)
        os.environ.update(RANK=str(rank), WORLD_SIZE='2', LOCAL_RANK=str(rank))
        dist.init_process_group('gloo', init_method=meeting, rank=rank, world_size=2)
        work(rank, *args)
        dist.barrier()
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)
