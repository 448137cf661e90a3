"""Named settings of the command line, and sliders that keep to the rule of a group."""

import random
from pathlib import Path

import pytest

from sparsevit_mm.demo.settings import LARGEST, normalize_settings, parse_settings, settle
from sparsevit_mm.sparsity import SparsityLayout

LAYOUT = SparsityLayout(('a.pair1', 'b.pair1', 'b.pair2', 'b.pair3', 'c.pair1'), (1, 3, 1))


@pytest.mark.parametrize(
    ('values', 'moved', 'settled'),
    [
        ((0.1, 0.9, 0.3, 0.4, 0.0), 1, (0.1, 0.9, 0.9, 0.9, 0.0)),
        ((0.1, 0.2, 0.3, 0.1, 0.0), 3, (0.1, 0.1, 0.1, 0.1, 0.0)),
        ((0.1, 0.2, 0.5, 0.4, 0.0), 2, (0.1, 0.2, 0.5, 0.5, 0.0)),
        ((0.8, 0.2, 0.3, 0.4, 0.0), 0, (0.8, 0.2, 0.3, 0.4, 0.0)),
        ((0.1, 0.2, 0.3, 7.0, 0.0), 3, (0.1, 0.2, 0.3, LARGEST, 0.0)),
        ((0.1, -1.0, 0.3, 0.4, 0.0), 1, (0.1, 0.0, 0.3, 0.4, 0.0)),
    ],
)
def test_the_group_follows(values, moved, settled) -> None:
    assert settle(LAYOUT, values, moved) == settled


def test_settled_values_are_allowed_and_the_moved_one_stays() -> None:
    rng = random.Random(0)
    values = [0.0] * 5
    for _ in range(200):
        moved = rng.randrange(5)
        values[moved] = round(rng.uniform(0, LARGEST), 2)
        before = list(values)
        values = list(settle(LAYOUT, values, moved))
        assert LAYOUT.normalize(values) == tuple(values)
        assert values[moved] == before[moved]


def test_named_settings(tmp_path: Path) -> None:
    (tmp_path / 'best_config.py').write_text("model = dict(backbone=dict(type='x', sparsity=(0.1, 0.2)))")
    settings = parse_settings(['found=.6,0', 'half = 0.5', f'best={tmp_path / "best_config.py"}'])
    assert settings == {'found': (0.6, 0.0), 'half': 0.5, 'best': (0.1, 0.2)}
    assert list(settings) == ['found', 'half', 'best']


@pytest.mark.parametrize(
    ('texts', 'message'),
    [
        (['.6,0'], 'NAME=SPARSITY'),
        (['=.6'], 'NAME=SPARSITY'),
        (['found='], 'NAME=SPARSITY'),
        (['found=many'], 'many'),
        (['a=0', 'a=0.5'], 'a is given twice'),
        (['a=missing.py'], 'missing.py'),
    ],
)
def test_mistakes(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_settings(texts)


def test_config_without_sparsity(tmp_path: Path) -> None:
    (tmp_path / 'dense.py').write_text("model = dict(backbone=dict(type='ResNet'))")
    with pytest.raises(ValueError, match=r'dense\.py.* has no model\.backbone\.sparsity'):
        parse_settings([f'found={tmp_path / "dense.py"}'])


def test_settings_fit_the_sites() -> None:
    assert normalize_settings({'half': 0.5}, LAYOUT) == {'half': (0.5,) * 5}
    with pytest.raises(ValueError, match=r'--settings found: .*must not decrease'):
        normalize_settings({'found': (0, 0.5, 0.4, 0.6, 0)}, LAYOUT)
