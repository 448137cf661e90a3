import pytest
import torch
import torch.nn.functional as F

from sparsevit_mm.ops import build_window_grid, window_token_counts

SIZES = [(14, 21), (15, 20), (3, 5), (7, 7), (29, 8)]


def partition(grid_map: torch.Tensor, window: int, shift: int) -> torch.Tensor:
    """Pads, shifts and partitions a map ``[H, W]`` step by step, ``[nW, N]``."""
    height, width = grid_map.shape
    padded = F.pad(grid_map, (0, -width % window, 0, -height % window), value=height * width)
    rolled = padded.roll((-shift, -shift), (0, 1))
    rows, columns = rolled.shape[0] // window, rolled.shape[1] // window
    return rolled.view(rows, window, columns, window).transpose(1, 2).reshape(-1, window**2)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(('window', 'shift'), [(7, 0), (7, 3), (4, 2)])
def test_rows_are_those_of_shift_and_partition(size, window, shift):
    grid = build_window_grid(*size, window, shift, 'cpu')
    places = torch.arange(size[0] * size[1]).view(size)
    assert torch.equal(grid.rows, partition(places, window, shift))
    counts = (grid.rows < grid.length).sum(1)
    assert counts.tolist() == list(grid.token_counts) == window_token_counts(*size, window, shift)
    assert grid.padded == bool((grid.rows == grid.length).any())


@pytest.mark.parametrize('size', SIZES)
def test_every_token_is_in_one_window(size):
    for shift in (0, 3):
        rows = build_window_grid(*size, 7, shift, 'cpu').rows.flatten()
        assert torch.equal(rows[rows < size[0] * size[1]].sort().values, torch.arange(size[0] * size[1]))


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('window', [7, 4])
def test_shift_masks_part_what_the_shift_brought_together(size, window):
    shift = window // 2
    grid = build_window_grid(*size, window, shift, 'cpu')
    height, width = (-(-length // window) * window for length in size)
    # Region of each place of the shifted map, as Swin numbers them.
    region = [torch.bucketize(torch.arange(length), torch.tensor([length - window, length - shift]), right=True)
              for length in (height, width)]  # fmt: skip
    numbers = (region[0][:, None] * 3 + region[1][None, :]).float()
    windows = partition(numbers, window, 0)
    expected = torch.where(windows[:, :, None] == windows[:, None, :], 0.0, -100.0)
    assert torch.equal(grid.masks[grid.kinds], expected)


def test_most_tokens_bounds_every_selection():
    grid = build_window_grid(15, 20, 7, 3, 'cpu')
    counts = torch.tensor(grid.token_counts)
    for kept in range(1, grid.num_windows + 1):
        best = counts.sort(descending=True).values[:kept].sum()
        assert grid.most_tokens(kept) == best
    assert grid.most_tokens(grid.num_windows) == 15 * 20
