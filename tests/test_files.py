"""Files that are at their place when they are complete."""

import pytest

from sparsevit_mm.files import written_whole


def test_the_former_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / 'table.json'
    path.write_text('before')
    with written_whole(path) as unfinished:
        unfinished.write_text('after')
        assert path.read_text() == 'before' and unfinished.suffix == '.json' and unfinished.parent == tmp_path
    assert path.read_text() == 'after' and list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_after_an_error(tmp_path):
    path = tmp_path / 'table.json'
    with pytest.raises(KeyError), written_whole(path) as unfinished:
        unfinished.write_text('half')
        raise KeyError
    assert not list(tmp_path.iterdir())
