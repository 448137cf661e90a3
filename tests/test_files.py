"""Files that are at their place when they are complete, and the images of folders."""

import pytest

from sparsevit_mm.files import list_images, written_whole


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


def test_images_of_files_and_folders(tmp_path):
    for name in ('b.JPG', 'a.png', 'notes.txt'):
        (tmp_path / name).touch()
    (tmp_path / 'empty').mkdir()
    one = tmp_path / 'b.JPG'
    assert list_images([one, tmp_path]) == [one, tmp_path / 'a.png', one]
    with pytest.raises(ValueError, match=r'no file or folder .*gone'):
        list_images([tmp_path / 'gone'])
    with pytest.raises(ValueError, match='has no image'):
        list_images([tmp_path / 'empty'])
