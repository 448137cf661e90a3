"""What a stage of windows remembers from one pass to the next."""

import pytest
import torch

from sparsevit_mm.models import SparseSwin

from .conftest import randomize


@pytest.fixture
def backbone(tiny_swin_cfg) -> SparseSwin:
    model = SparseSwin(**tiny_swin_cfg)
    model.init_weights()
    return randomize(model).eval()


def test_routes_of_all_windows_are_built_once(backbone):
    stage = backbone.stages[0]
    grid = stage.grid((15, 20), 3, torch.device('cpu'))
    assert stage.route(grid, 2) is stage.route(grid, 2)
    assert stage.route(grid, 2) is not stage.route(grid, 1)
    assert stage.route(grid, 2) is not stage.route(stage.grid((20, 15), 3, torch.device('cpu')), 2)
    assert stage.images(2, 3, torch.device('cpu')).tolist() == [0, 0, 0, 1, 1, 1]


def test_what_is_remembered_is_bounded(backbone):
    with torch.no_grad():
        for sparsity in (0, 0.5):
            backbone.sparsity = sparsity
            for side in range(32, 32 + 4 * 80, 4):
                backbone(torch.randn(1, 3, side, 40))
    for stage in backbone.stages:
        assert 0 < len(stage._routes) <= 8 and 0 < len(stage._images) <= 64


@pytest.mark.parametrize('sparsity', [0, 0.5])
def test_sizes_and_batches_do_not_mix(backbone, sparsity):
    """A backbone that has seen other images computes what a new one does."""
    backbone.sparsity = sparsity
    sizes = ((2, 60, 72), (1, 60, 72), (2, 72, 60), (3, 40, 40))
    images = [torch.randn(batch, 3, height, width) for batch, height, width in sizes]
    with torch.no_grad():
        seen = [backbone(x) for x in images]
        for x, expected in zip(images, seen):
            for stage in backbone.stages:
                stage._grids, stage._routes, stage._images = (type(stage._grids)() for _ in range(3))
            for a, b in zip(backbone(x), expected):
                assert torch.equal(a, b)


def test_remembered_in_inference_mode_and_trained_with(backbone):
    images = torch.randn(2, 3, 60, 72)
    with torch.inference_mode():
        backbone(images)
    backbone.train()
    sum(out.square().mean() for out in backbone(images)).backward()
    assert all(p.grad is not None for p in backbone.parameters())
