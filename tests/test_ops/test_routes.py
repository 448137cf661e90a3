import pytest
import torch

from sparsevit_mm.ops import (
    add_spill_row,
    build_ragged_route,
    build_route,
    build_window_grid,
    drop_spill_row,
    write_rows,
)


def test_spill_row_round_trip():
    tokens = torch.randn(2, 15, 4)
    rows = add_spill_row(tokens)
    assert rows.shape == (31, 4) and not rows[-1].any()
    assert torch.equal(drop_spill_row(rows, 2), tokens)


@pytest.mark.parametrize('size', [(14, 21), (15, 20), (3, 5)])
@pytest.mark.parametrize('shift', [0, 3])
def test_gather_and_write_back_is_the_identity(size, shift):
    grid = build_window_grid(*size, 7, shift, 'cpu')
    tokens = torch.randn(2, grid.length, 4)
    kept = torch.stack([torch.randperm(grid.num_windows)[: max(1, grid.num_windows // 2)] for _ in range(2)])
    route = build_route(grid, 2, kept)
    rows = add_spill_row(tokens)
    gathered = rows[route.rows]
    if route.real is not None:
        gathered = gathered[route.real]
    assert torch.equal(drop_spill_row(write_rows(rows.clone(), route.places, gathered), 2), tokens)


@pytest.mark.parametrize('shift', [0, 3])
def test_places_cover_the_kept_windows_and_nothing_else(shift):
    grid = build_window_grid(15, 20, 7, shift, 'cpu')
    kept = torch.tensor([[0, 4], [8, 2]])
    route = build_route(grid, 2, kept)
    written = write_rows(add_spill_row(torch.zeros(2, 300, 1)), route.places, torch.ones(len(route.places), 1))
    for image in range(2):
        expected = torch.zeros(301)
        expected[grid.rows[kept[image]].flatten()] = 1
        assert torch.equal(drop_spill_row(written, 2)[image, :, 0], expected[:300])


def test_all_windows_hold_every_real_token_once():
    grid = build_window_grid(15, 20, 7, 3, 'cpu')
    places = build_route(grid, 2).places
    assert torch.equal(places.sort().values, torch.arange(600))


def test_number_of_places_does_not_depend_on_the_selection():
    grid = build_window_grid(15, 20, 7, 3, 'cpu')
    lengths = {len(build_route(grid, 1, torch.randperm(9)[None, :4]).places) for _ in range(20)}
    assert lengths == {grid.most_tokens(4)}


@pytest.mark.parametrize('shift', [0, 3])
def test_parts_of_a_route_are_the_whole_and_remembered(shift):
    grid = build_window_grid(15, 20, 7, shift, 'cpu')
    route = build_route(grid, 2, torch.tensor([[0, 4, 8], [5, 2, 1]]))
    parts = route.split(4)
    places = torch.cat([part.places for part in parts])
    assert len(parts) == 2 and len(set(places.tolist())) == len(places)
    assert set(places.tolist()) == set(route.places.tolist()) - {600}
    assert route.split(4) is parts and len(route.split(6)) == 1


@pytest.mark.parametrize('batch', [1, 2])
def test_a_route_that_is_only_to_be_split_has_the_same_parts(batch):
    grid = build_window_grid(15, 20, 7, 3, 'cpu')
    kept = torch.tensor([[0, 4, 8], [5, 2, 1]])[:batch]
    mask = torch.zeros(batch, 9, dtype=torch.bool).scatter(1, kept, True)
    for build, chosen in ((build_route, kept), (build_ragged_route, mask)):
        arguments = (grid, batch, chosen) if build is build_route else (grid, chosen)
        whole, parted = build(*arguments), build(*arguments, whole=False)
        assert whole.real is not None and parted.real is None
        for one, other in zip(whole.split(2), parted.split(2), strict=True):
            assert torch.equal(one.rows, other.rows) and torch.equal(one.places, other.places)


@pytest.mark.parametrize('seed', range(5))
def test_real_rows_keep_their_order_and_come_first(seed):
    grid = build_window_grid(10, 13, 7, 3, 'cpu')
    kept = torch.stack([torch.randperm(4)[:2] for _ in range(3)])
    route = build_route(grid, 3, kept)
    padding = route.padding.view(3, -1)
    count = len(route.real) // 3
    order = padding.long().argsort(dim=1, stable=True)[:, :count] + torch.arange(3)[:, None] * padding.shape[1]
    assert torch.equal(route.real, order.flatten())
