"""Two real processes as one data-parallel group on the CPU."""

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

__all__ = ['run_in_two_processes']

# Imported once in a process that all others are forked from, where the system can; the rest is theirs to import.
PRELOADED = ['torch', 'mmengine.runner', 'mmcv.ops', 'mmseg.models', 'sparsevit_mm.models', 'sparsevit_mm.engine.hooks']
START = next(how for how in ('forkserver', 'spawn') if how in multiprocessing.get_all_start_methods())


def run_in_two_processes(work: Callable[..., None], *args: object) -> None:
    """Calls ``work(rank, *args)`` in two processes that have joined a gloo group; raises if one fails.

    They meet in a file: a free port that is looked up can be taken by another test before they are there.
    """
    if START == 'forkserver':
        multiprocessing.get_context(START).set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        arguments = (f'file://{folder}/rendezvous', work, args)
        mp.start_processes(_join_and_work, arguments, nprocs=2, start_method=START)


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
