"""What the page knows beside its demo: who still waits for what, and which files it may show."""

from pathlib import Path

import pytest

pytest.importorskip('gradio')

from sparsevit_mm.demo import page
from sparsevit_mm.demo.page import Wishes, uploaded_file


def test_a_newer_wish_makes_older_ones_outdated() -> None:
    wishes = Wishes()
    first = wishes.outdated('tab')
    assert not first()
    wishes.new('other tab')
    assert not first()
    wishes.new('tab')
    assert first() and not wishes.outdated('tab')()


def test_tabs_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, 'TABS_REMEMBERED', 3)
    wishes = Wishes()
    for tab in ('a', 'b', 'c', 'a', 'd'):
        wishes.new(tab)
    assert list(wishes._numbers) == ['c', 'a', 'd']


def test_only_what_was_uploaded_is_shown(tmp_path: Path) -> None:
    (tmp_path / 'uploads').mkdir()
    inside, outside = tmp_path / 'uploads' / 'a.png', tmp_path / 'b.png'
    assert uploaded_file(None, tmp_path) is None
    assert uploaded_file(dict(path=str(inside)), tmp_path / 'uploads') == inside
    for path in (outside, tmp_path / 'uploads' / '..' / 'b.png', None):
        with pytest.raises(ValueError, match='was not uploaded here'):
            uploaded_file(dict(path=str(path)), tmp_path / 'uploads')
