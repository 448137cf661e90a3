from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import mmcv
import numpy as np
import pytest
import torch

from sparsevit_mm.models import SiteRecord
from sparsevit_mm.visualization import SiteMap, draw_heat_map, draw_overview, draw_selection, draw_site

GREY = np.full((64, 96, 3), 128, dtype=np.uint8)


def site_map(counts: np.ndarray, blocks: int = 2) -> SiteMap:
    return SiteMap(site='stage1.pair1', blocks=blocks, counts=counts, unit='windows', units=4, kept=1, sparsity=0.75)


def colours(picture: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}


def share(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    return (picture == colour).all(-1).mean()


def test_computed_places_keep_their_colours() -> None:
    image = GREY.copy()
    image[:, :] = (200, 30, 90)
    counts = np.zeros((64, 96), dtype=int)
    half = counts.copy()
    half[:, :48] = 2
    nothing, left, everything = (draw_site(image, site_map(c)) for c in (counts, half, counts + 2))
    assert share(nothing, (200, 30, 90)) == 0
    assert share(left, (200, 30, 90)) == pytest.approx(share(everything, (200, 30, 90)) / 2, rel=0.02)
    assert share(everything, (200, 30, 90)) > 0.5


def test_skipped_partly_and_fully_computed_differ_in_lightness_and_texture() -> None:
    for level in (5, 128, 250):  # night, overcast, snow
        image = np.full((80, 240, 3), level, dtype=np.uint8)
        counts = np.repeat(np.array([0, 1, 2]), 80)[None].repeat(80, 0)
        grey = draw_site(image, site_map(counts)).astype(float).mean(-1)
        row = grey[grey.shape[0] // 2]
        third = len(row) // 3
        skipped, partly, fully = (row[i * third + 20 : (i + 1) * third - 20] for i in range(3))
        assert skipped.std() > 3 and partly.std() < 1 and fully.std() < 1  # hatched or flat
        assert abs(np.median(partly) - np.median(fully)) > 15
        assert abs(np.median(skipped) - np.median(partly)) > 15


def test_what_is_in_a_package_has_lines_of_its_own() -> None:
    counts = np.zeros((64, 96), dtype=int)
    counts[:, :32] = 2
    packed = np.zeros((64, 96), dtype=bool)
    packed[:, 64:] = True
    with_packages = replace(site_map(counts), packed=packed)
    picture, plain = draw_site(GREY, with_packages), draw_site(GREY, site_map(counts))
    warm = [(p[..., 0].astype(int) > p[..., 2].astype(int) + 20).mean() for p in (picture, plain)]
    assert warm[0] > 0.01 and warm[1] == 0


def test_heat_map_has_a_colour_for_every_count() -> None:
    counts = np.arange(96)[None].repeat(64, 0) // 24
    flat = [draw_heat_map(GREY, [site_map(np.full((64, 96), n), blocks=3)]) for n in range(4)]
    ramp = draw_heat_map(GREY, [site_map(counts, blocks=3)])
    centres = {tuple(picture[picture.shape[0] // 2, picture.shape[1] // 3]) for picture in flat}
    assert len(centres) == 4 and centres < colours(ramp)


def test_overview_has_a_panel_for_image_heat_map_and_every_site() -> None:
    image = GREY.copy()
    image[:, :] = (200, 30, 90)
    everything = site_map(np.full((64, 96), 2))
    one, six = (draw_overview(image, [everything] * n) for n in (1, 6))
    count = [round(share(sheet, (200, 30, 90)) * sheet.shape[0] * sheet.shape[1]) for sheet in (one, six)]
    assert count[1] / count[0] == pytest.approx(7 / 2, rel=0.1)  # as many panels in the image's own colours
    assert 1 < six.shape[1] / six.shape[0] < 3


@pytest.mark.parametrize('size', [(40, 300), (300, 40), (37, 53), (256, 256)])
def test_any_aspect(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), dtype=np.uint8)
    for picture in (
        draw_site(image, site_map(np.ones(size, dtype=int))),
        draw_heat_map(image, [site_map(np.ones(size, dtype=int))]),
        draw_overview(image, [site_map(np.ones(size, dtype=int))], 'title'),
    ):
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        # Nothing is cut off: the margin is white all round.
        assert all((edge == 255).all() for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]))


def record(site: str) -> SiteRecord:
    return SiteRecord(site=site, block=0, shift=0, grid=(4, 4), window=2, kept=torch.tensor([[0]]), num_units=4)


def test_draw_selection_and_save(tmp_path: Path) -> None:
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    pictures = draw_selection(image, [record('stage1.pair1'), record('stage2.pair1')])
    files = pictures.save(tmp_path / 'new' / 'folder')
    assert {file.name for file in files} == {'overview.png', 'heat_map.png', 'stage1.pair1.png', 'stage2.pair1.png'}
    assert np.array_equal(mmcv.imread(files[0], channel_order='rgb'), pictures.overview)
    assert not plt.get_fignums()  # no global figure is left behind


def test_image_must_be_rgb_bytes() -> None:
    for wrong in (np.zeros((16, 16, 3)), np.zeros((16, 16), dtype=np.uint8), np.zeros((3, 16, 16), dtype=np.uint8)):
        with pytest.raises(ValueError, match='image must be uint8 RGB'):
            draw_selection(wrong, [record('stage1.pair1')])
