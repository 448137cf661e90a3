"""Fixtures and guards that all tests share."""

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(reason='data/ is not there: configs/sparsevit/README.md says what belongs in it')
    no_gpu = pytest.mark.skip(reason='needs a CUDA device')
    for item in items:
        if item.get_closest_marker('data') and not (ROOT / 'data').exists():
            item.add_marker(missing)
        if item.get_closest_marker('cuda') and not torch.cuda.is_available():
            item.add_marker(no_gpu)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


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
