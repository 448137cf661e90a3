"""Fixtures and guards that all tests share."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

ROOT = Path(__file__).parents[1]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
# One test process and what it starts: torch, the mm packages and two training processes.
MEMORY_PER_WORKER = 3 * 2**30

if 'PYTEST_XDIST_WORKER' in os.environ:
    # The workers share the cores, and so do the programs that their tests start.
    threads = max(1, CORES // int(os.environ['PYTEST_XDIST_WORKER_COUNT']))
    os.environ['OMP_NUM_THREADS'] = str(threads)
    torch.set_num_threads(threads)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For ``-n auto``: a worker for each core that this process may use, as far as the memory allows."""
    import psutil

    return max(1, min(CORES, psutil.virtual_memory().available // MEMORY_PER_WORKER))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(reason='data/ is not there: configs/sparsevit/README.md says what belongs in it')
    no_gpu = pytest.mark.skip(reason='needs a CUDA device')
    for item in items:
        if item.get_closest_marker('data') and not (ROOT / 'data').exists():
            item.add_marker(missing)
        if item.get_closest_marker('cuda') and not torch.cuda.is_available():
            item.add_marker(no_gpu)


def pytest_collection_finish() -> None:
    """What collecting the tests has imported stays: it needs no look at in every collection of garbage from here on."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def fresh_mmengine() -> Iterator[None]:
    """What mmengine remembers of a test says or hides warnings in later ones, or writes to its closed output."""
    yield
    MMLogger._instance_dict.clear()
    DefaultScope._instance_dict.clear()


@pytest.fixture
def data_root() -> Path:
    """The real data sets."""
    if not (ROOT / 'data').exists():
        pytest.skip('data/ is not there: configs/sparsevit/README.md says what belongs in it')
    return ROOT / 'data'


@pytest.fixture
def tiny_swin_cfg() -> dict:
    """A Swin that runs in milliseconds: two stages, three sites."""
    return dict(embed_dims=16, depths=(2, 4), num_heads=(2, 4), strides=(4, 2), out_indices=(0, 1), window_size=7)
