import matplotlib.image
import numpy as np
import pytest
from fabricated import MIXED, make_outcome

from sparsevit_mm.search.report.plot import GREEN, ORANGE, plot_outcome
from sparsevit_mm.search.report.plot_sites import plot_sites


def read(path):
    return (matplotlib.image.imread(path)[..., :3] * 255).round().astype(int)


def pixels_of(picture, colour):
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(picture - wanted).max(axis=-1) < 6).sum())


class TestOutcome:
    def test_shows_found_and_uniform_under_a_budget(self, tmp_path):
        plot_outcome(make_outcome(), tmp_path / 'a.png', 'demo')
        picture = read(tmp_path / 'a.png')
        assert pixels_of(picture, GREEN) > 50 and pixels_of(picture, ORANGE) > 50

    def test_nothing_is_found_without_a_budget(self, tmp_path):
        plot_outcome(make_outcome(budget=None), tmp_path / 'a.png')
        assert pixels_of(read(tmp_path / 'a.png'), GREEN) == 0

    def test_names_with_signs_of_formulas(self, tmp_path):
        plot_outcome(make_outcome(metric='a_{b$'), tmp_path / 'a.png', 'costs $5 and \\frac')
        assert read(tmp_path / 'a.png').std() > 5

    def test_other_format(self, tmp_path):
        plot_outcome(make_outcome(), tmp_path / 'a.svg')
        assert '<svg' in (tmp_path / 'a.svg').read_text()
        assert [path.name for path in tmp_path.iterdir()] == ['a.svg']


class TestSites:
    def test_bars_of_found_and_uniform(self, tmp_path):
        plot_sites(make_outcome(), tmp_path / 'a.png')
        picture = read(tmp_path / 'a.png')
        assert pixels_of(picture, GREEN) > 5000 and pixels_of(picture, ORANGE) > 1000

    def test_uniform_is_not_drawn_twice_where_it_is_the_best(self, tmp_path):
        plot_sites(make_outcome([(0.5,) * 3]), tmp_path / 'a.png')
        picture = read(tmp_path / 'a.png')
        assert pixels_of(picture, GREEN) > 5000 and pixels_of(picture, ORANGE) == 0

    def test_without_uniform(self, tmp_path):
        plot_sites(make_outcome(MIXED), tmp_path / 'a.png')
        assert pixels_of(read(tmp_path / 'a.png'), ORANGE) == 0

    @pytest.mark.parametrize('settings', [5, 90])
    def test_front_is_a_map_of_moderate_size(self, tmp_path, settings):
        ramp = [(round(i / settings * 0.8, 3),) * 3 for i in range(settings)]
        outcome = make_outcome(ramp, budget=None)
        assert len(outcome.front) == settings
        plot_sites(outcome, tmp_path / 'a.png')
        picture = read(tmp_path / 'a.png')
        assert picture.shape[1] < 2500 and len(np.unique(picture.reshape(-1, 3), axis=0)) > settings
        dense = pixels_of(picture, '#fee838')  # the yellow end of cividis: the sites of the dense setting
        assert dense > 100

    def test_many_sites(self, tmp_path):
        sites = tuple(f'stage{i}.pair{i}' for i in range(12))
        outcome = make_outcome([])
        best = make_outcome().best
        wide = type(best)(0, (0.1, 0.2, 0.3) * 4, 50.0, 5.0)
        plot_sites(make_outcome(sites=sites, evaluations=(wide,)), tmp_path / 'a.png')
        assert outcome.best is None and pixels_of(read(tmp_path / 'a.png'), GREEN) > 5000
