import pytest
import torch
import torch.nn.functional as F

from sparsevit_mm.ops import build_window_grid
from sparsevit_mm.registry import MODELS
from sparsevit_mm.selectors import MagnitudeSelector, RandomSelector


@pytest.mark.parametrize('shift', [0, 3])
def test_magnitude_is_mean_over_channels_then_l2_over_the_window(shift):
    x = torch.randn(2, 15, 20, 8)
    grid = build_window_grid(15, 20, 7, shift, 'cpu')
    selector = MagnitudeSelector()
    scores = selector.window_scores(selector(x.flatten(1, 2)), grid)
    # Step by step, as the paper's code: mean of magnitudes, pad, shift, partition, norm.
    maps = F.pad(x.abs().mean(-1), (0, 1, 0, 6)).roll((-shift, -shift), (1, 2))
    windows = maps.view(2, 3, 7, 3, 7).transpose(2, 3).reshape(2, 9, 49)
    torch.testing.assert_close(scores, windows.pow(2).sum(-1).sqrt())


def test_magnitude_is_computed_in_float32_under_autocast():
    x = torch.randn(1, 49, 8)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        scores = MagnitudeSelector()(x)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, x.abs().mean(-1))
    assert MagnitudeSelector()(x.bfloat16()).dtype == torch.float32


def test_magnitude_passes_no_gradient():
    assert not MagnitudeSelector()(torch.randn(1, 49, 8, requires_grad=True)).requires_grad


def test_random_is_one_permutation_for_every_image_and_forward():
    grid = build_window_grid(28, 28, 7, 0, 'cpu')
    selector = RandomSelector(seed=3)
    first = selector.window_scores(selector(torch.randn(4, 784, 8)), grid)
    again = selector.window_scores(selector(torch.randn(2, 784, 8)), grid)
    assert torch.equal(first, first[:1].expand(4, -1)) and torch.equal(first[:2], again)
    assert first[0].sort().values.tolist() == list(range(16))
    other = RandomSelector(seed=4)
    assert not torch.equal(first[:2], other.window_scores(again, grid))
    assert selector(torch.randn(2, 784, 8)).shape == (2, 784)


def test_random_refuses_a_seed_that_is_no_int():
    with pytest.raises(ValueError, match=r'seed of RandomSelector must be an int, got 0\.5'):
        RandomSelector(seed=0.5)


@pytest.mark.parametrize('name', ['MagnitudeSelector', 'RandomSelector'])
def test_selectors_build_by_prefix(name):
    assert type(MODELS.build(dict(type=f'sparsevit_mm.{name}', embed_dims=8))).__name__ == name
