"""Two real processes as one data-parallel group on the CPU."""

import os
import socket
import traceback
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

__all__ = ['run_in_two_processes']


def run_in_two_processes(work: Callable[..., None], *args: object) -> None:
    """Calls ``work(rank, *args)`` in two processes that have joined a gloo group; raises if one fails."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    mp.spawn(_join_and_work, (port, work, args), nprocs=2)


def _join_and_work(rank: int, port: int, work: Callable[..., None], args: tuple) -> None:
    """Ends the process itself: a group that is destroyed while its threads let go of work can wait for ever.

    Its destructor joins the threads and holds the interpreter lock, which they need.
    """
    code = 1
    try:
        torch.set_num_threads(1)
        os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE='2')
        os.environ.update(LOCAL_RANK=str(rank))
        dist.init_process_group('gloo', rank=rank, world_size=2)
        work(rank, *args)
        dist.barrier()
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)
