import math

import numpy as np
import pytest
import torch

from sparsevit_mm.models import SiteRecord, SparseSwin
from sparsevit_mm.visualization import SiteMap, kept_share, site_maps
from sparsevit_mm.visualization.site_map import join_crops


def record(kept: list[list[int]], *, grid: tuple[int, int] = (4, 4), shift: int = 0, site: str = 'stage1.pair1'):
    """A block with windows of 2 by 2 tokens."""
    units = math.ceil(grid[0] / 2) * math.ceil(grid[1] / 2)
    return SiteRecord(
        site=site, block=0, shift=shift, grid=grid, window=2, kept=torch.tensor(kept), num_units=units
    )  # fmt: skip


def test_each_token_covers_its_patch() -> None:
    (site,) = site_maps([record([[1]])], (16, 16))
    expected = np.zeros((16, 16), dtype=int)
    expected[:8, 8:] = 1
    assert np.array_equal(site.counts, expected)


def test_blocks_of_a_site_add_up_and_keep_their_order() -> None:
    records = [record([[0]]), record([[0]], shift=1), record([[3]], site='stage1.pair2')]
    first, second = site_maps(records, (16, 16))
    assert (first.site, first.blocks, second.site, second.blocks) == ('stage1.pair1', 2, 'stage1.pair2', 1)
    # The plain block computed tokens 0 and 1, the shifted one 1 and 2.
    assert first.counts[::4, ::4].tolist() == [[1, 1, 0, 0], [1, 2, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_images_of_a_batch_are_told_apart() -> None:
    records = [record([[0], [3]])]
    assert site_maps(records, (16, 16), index=0)[0].counts[0, 0] == 1
    assert site_maps(records, (16, 16), index=1)[0].counts[0, 0] == 0


def test_padding_of_the_input_is_cut_off() -> None:
    # 4 x 4 tokens on an input padded from 10 x 13 to 16 x 16: a token is still 4 pixels.
    (site,) = site_maps([record([[1, 2]])], (10, 13), input_size=(16, 16))
    assert site.counts.shape == (10, 13)
    assert site.counts[:8, 8:].all() and site.counts[8:, :8].all()
    assert not site.counts[:8, :8].any() and not site.counts[8:, 8:].any()


@pytest.mark.parametrize(
    ('pixels', 'tokens', 'stride'),
    [(16, 4, 4), (333, 84, 4), (333, 11, 32), (330, 11, 32), (20, 1, 32), (336, 24, 14)],
    ids=['exact', 'last patch padded', 'padded at every merging', 'divisible by chance', 'one token', 'patch of 14'],
)
def test_stride_is_recovered(pixels: int, tokens: int, stride: int) -> None:
    (site,) = site_maps([record([[0]], grid=(tokens, 1))], (pixels, 4))
    assert site.counts[:, 0].sum() == min(2 * stride, pixels)


def test_title_names_site_sparsity_and_windows() -> None:
    (site,) = site_maps([record([[1]])], (16, 16), sparsity={'stage1.pair1': 0.75})
    assert site.title == 'stage1.pair1: sparsity 0.75, 1 of 4 windows'
    (site,) = site_maps([record([[1]])], (16, 16))
    assert site.title == 'stage1.pair1: 1 of 4 windows'


def test_counts_of_a_backbone_agree_with_its_sparsity() -> None:
    torch.manual_seed(0)
    backbone = SparseSwin(
        embed_dims=8, depths=(2, 3), num_heads=(1, 2), strides=(4, 2), out_indices=(1,), window_size=2,
        sparsity=(0.5, 0.25, 0.75),
    ).eval()  # fmt: skip
    with backbone.record_selections() as records:
        backbone(torch.randn(2, 3, 64, 64))
    maps = site_maps(records, (64, 64), index=1, sparsity=dict(zip(backbone.sites, backbone.sparsity)))
    assert [(site.site, site.blocks) for site in maps] == [
        ('stage1.pair1', 2),
        ('stage2.pair1', 2),
        ('stage2.pair2', 1),
    ]
    for site, sparsity in zip(maps, backbone.sparsity):
        assert site.counts.mean() == pytest.approx(site.blocks * (1 - sparsity))
        assert site.kept == site.units * (1 - sparsity)


def test_packages_and_counts_of_an_image() -> None:
    torch.manual_seed(0)
    backbone = SparseSwin(
        embed_dims=8, depths=(2, 2), num_heads=(1, 2), strides=(4, 2), out_indices=(1,), window_size=2,
        sparsity=(0.5, 0.75), bypass='package',
    ).eval()  # fmt: skip
    with backbone.record_selections() as records:
        backbone(torch.randn(2, 3, 64, 64))
    for site in site_maps(records, (64, 64), index=1):
        assert site.packed.any() and np.array_equal(site.packed, site.counts == 0)
    own = record([[0, 2, -1]])
    (site,) = site_maps([own], (16, 16))
    assert site.kept == 2 and site.counts.sum() == 128 and site.packed is None


def crop(value: int, packed: bool | None = None, size: tuple[int, int] = (4, 4)) -> SiteMap:
    held = None if packed is None else np.full(size, packed)
    return SiteMap('block1', 2, np.full(size, value), 'tokens', units=16, kept=8, packed=held)


def test_share_of_packages_is_in_the_title() -> None:
    half = SiteMap('block1', 1, np.zeros((4, 4), int), 'tokens', 16, 0, packed=np.arange(16).reshape(4, 4) < 8)
    assert half.title == 'block1: 0 of 16 tokens, 50% packed'


def test_kept_share_is_a_mean_over_blocks() -> None:
    assert kept_share([crop(2), crop(1)]) == pytest.approx(0.75)


def test_crops_are_joined_at_their_places() -> None:
    corners = [(0, 0), (0, 2), (2, 0), (2, 2)]
    values = [(0, True), (1, False), (2, True), (1, True)]
    (joined,) = join_crops([[crop(*value)] for value in values], corners, (5, 6))
    assert joined.counts.tolist() == [
        [0, 0, 1, 1, 1, 1],
        [0, 0, 1, 1, 1, 1],
        [2, 2, 2, 2, 1, 1],
        [2, 2, 2, 2, 1, 1],
        [2, 2, 2, 2, 1, 1],
    ]
    assert (joined.units, joined.kept, joined.blocks) == (64, 32, 2)
    # Nothing of what some crop computed outside of a package is called packed.
    assert joined.packed.tolist() == [[j < 2 or i >= 4 or (i >= 2 and j < 2) for j in range(6)] for i in range(5)]


def test_mistakes() -> None:
    with pytest.raises(ValueError, match='record_selections'):
        site_maps([], (16, 16))
    with pytest.raises(ValueError, match=r'index must be in \[0, 1\)'):
        site_maps([record([[0]])], (16, 16), index=1)
