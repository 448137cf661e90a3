import json
import multiprocessing
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('skimage')
pytest.importorskip('sklearn')

from sparsevit_mm.datasets import demo
from sparsevit_mm.datasets.demo import DEMO_VERSION, SPLITS, default_demo_root, prepare_demo

COUNTS = {'train': 4, 'val': 3}


@pytest.fixture(scope='module')
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_demo(tmp_path_factory.mktemp('demo') / 'set', counts=COUNTS)


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob('*')) if path.is_file()}


def test_layout(demo_root: Path) -> None:
    for split, count in COUNTS.items():
        for folder, suffix in (('images', '.jpg'), ('labels', '.png')):
            paths = sorted((demo_root / folder / split).iterdir())
            assert [path.name for path in paths] == [f'{i:06d}{suffix}' for i in range(count)]
            assert {cv2.imread(str(path)).shape for path in paths} == {(448, 448, 3)}
    assert [path.name for path in demo_root.parent.glob('.set*')] == ['.set.lock'], 'nothing is left beside the set'


def test_annotations_agree_with_semantic_maps(demo_root: Path) -> None:
    mask_api = pytest.importorskip('pycocotools.mask')
    for split in COUNTS:
        coco = json.loads((demo_root / 'annotations' / f'instances_{split}.json').read_text())
        assert [image['file_name'] for image in coco['images']] == [f'{i:06d}.jpg' for i in range(COUNTS[split])]
        painted = np.zeros((COUNTS[split], 448, 448), np.uint8)
        for annotation in coco['annotations']:
            rle = mask_api.frPyObjects(annotation['segmentation'], 448, 448)
            mask = mask_api.decode(rle).astype(bool)
            assert mask.sum() == annotation['area'] > 0
            assert mask_api.toBbox(rle).tolist() == annotation['bbox']
            assert not painted[annotation['image_id']][mask].any(), 'plates overlap'
            painted[annotation['image_id']][mask] = annotation['category_id']
        maps = [cv2.imread(str(demo_root / 'labels' / split / f'{i:06d}.png'), cv2.IMREAD_UNCHANGED) for i in range(3)]
        assert np.array_equal(painted[:3], maps)
        assert painted.any()


def test_most_windows_are_background(demo_root: Path) -> None:
    for path in (demo_root / 'labels').rglob('*.png'):
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        windows = (labels > 0).reshape(16, 28, 16, 28).any((1, 3))  # of 7x7 tokens of 4x4 pixels
        assert 0 < windows.mean() < 0.35


def test_same_seed_same_bytes_other_seed_other_pictures(demo_root: Path, tmp_path: Path) -> None:
    assert _files(prepare_demo(tmp_path / 'again', counts=COUNTS)) == _files(demo_root)
    other = _files(prepare_demo(tmp_path / 'other', seed=1, counts=COUNTS))
    assert other['images/val/000000.jpg'] != _files(demo_root)['images/val/000000.jpg']


def test_splits_share_no_source() -> None:
    train, val = (demo.PHOTOGRAPHS[split] for split in ('train', 'val'))
    assert not set(train) & set(val)
    sources = {split: demo.DemoSource.load(split) for split in SPLITS}
    assert sum(len(source.digits) for source in sources.values()) == 1797
    for source in sources.values():
        assert set(source.labels) == set(range(10))
        assert all(picture.ndim == 3 and min(picture.shape[:2]) >= 300 for picture in source.photographs)


def test_second_call_writes_nothing(demo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, '_make', lambda *_: pytest.fail('made again'))
    assert prepare_demo(demo_root, counts=COUNTS) == demo_root


def test_interrupted_generation_is_not_taken_as_complete(tmp_path: Path) -> None:
    class Interrupt(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Interrupt

    root = tmp_path / 'set'
    with pytest.raises(Interrupt):
        prepare_demo(root, counts=COUNTS, progress=stop)
    assert not root.exists()
    (tmp_path / '.set.part-killed' / 'images').mkdir(parents=True)  # what SIGKILL leaves
    steps = []
    prepare_demo(root, counts=COUNTS, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(i, 7) for i in range(1, 8)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.set.lock', 'set']


def _prepare_and_count(root: Path, made: 'multiprocessing.Queue') -> None:
    steps = []
    prepare_demo(root, counts=COUNTS, progress=lambda done, total: steps.append(done))
    made.put(len(steps))


def test_of_two_processes_one_makes_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context('spawn')
    made = context.Queue()
    processes = [context.Process(target=_prepare_and_count, args=(tmp_path / 'set', made)) for _ in range(2)]
    for process in processes:
        process.start()
    assert sorted(made.get(timeout=120) for _ in processes) == [0, 7]
    for process in processes:
        process.join()


def test_refuses_a_folder_with_something_else(tmp_path: Path) -> None:
    (tmp_path / 'holiday.jpg').touch()
    with pytest.raises(ValueError, match='is no demo set'):
        prepare_demo(tmp_path, counts=COUNTS)
    assert [path.name for path in tmp_path.iterdir()] == ['holiday.jpg']


def test_refuses_another_seed_in_the_same_folder(demo_root: Path) -> None:
    with pytest.raises(ValueError, match=r"another demo set .*'seed': 0.*'seed': 5"):
        prepare_demo(demo_root, seed=5, counts=COUNTS)


def test_tells_of_deleted_pictures(tmp_path: Path) -> None:
    root = prepare_demo(tmp_path / 'set', counts=COUNTS)
    (root / 'labels' / 'val' / '000001.png').unlink()
    with pytest.raises(ValueError, match='holds 2 files, not 3'):
        prepare_demo(root, counts=COUNTS)


def test_tells_of_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match=r'cannot be written.*SPARSEVIT_MM_DEMO'):
        prepare_demo(tmp_path / 'file' / 'set', counts=COUNTS)


def test_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv('SPARSEVIT_MM_DEMO', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert default_demo_root() == tmp_path / 'sparsevit_mm' / DEMO_VERSION
    monkeypatch.delenv('XDG_CACHE_HOME')
    assert default_demo_root() == Path(os.path.expanduser('~/.cache/sparsevit_mm'), DEMO_VERSION)
    monkeypatch.setenv('SPARSEVIT_MM_DEMO', str(tmp_path / 'mine'))
    assert default_demo_root() == tmp_path / 'mine'
    assert default_demo_root(seed=2) == tmp_path / 'mine-seed2'


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo, 'SPLITS', COUNTS)
    demo.main(['--out', str(tmp_path / 'set'), '--seed', '3'])
    assert str(tmp_path / 'set') in capsys.readouterr().out
    assert json.loads((tmp_path / 'set' / 'demo.json').read_text())['seed'] == 3
    with pytest.raises(SystemExit):
        demo.main(['--out', str(tmp_path / 'set'), '--seed', '4'])
    assert 'another demo set' in capsys.readouterr().err
