"""The embedded demo set: made once from pictures that scikit-image and scikit-learn carry, by seed.

``python -m sparsevit_mm.datasets.demo --out DIR`` writes it; configs reach it through
``sparsevit_mm.DemoSegDataset`` and ``sparsevit_mm.DemoCocoDataset``, which make it on first use. A set is::

    demo.json                             what it is made of; written last
    images/{train,val}/000000.jpg         448x448
    labels/{train,val}/000000.png         0 background, 1..10 plates with the digits 0..9
    annotations/instances_{train,val}.json  COCO format, run-length masks
"""

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from .demo_datasets import DEMO_CLASSES
from .demo_scenes import PHOTOGRAPHS, DemoSource, Scene, render_scene

__all__ = ['DEMO_VERSION', 'SPLITS', 'default_demo_root', 'prepare_demo']

DEMO_VERSION = 'demo-v1'
SPLITS = {'train': 240, 'val': 60}
_SIZE = 448
_MANIFEST = 'demo.json'


def default_demo_root(seed: int = 0) -> Path:
    """``demo-v1`` in the user's cache: ``SPARSEVIT_MM_DEMO``, else ``${XDG_CACHE_HOME:-~/.cache}/sparsevit_mm``.

    Seeds other than 0 have a directory of their own beside it, ``demo-v1-seed1`` and so on.
    """
    if chosen := os.environ.get('SPARSEVIT_MM_DEMO'):
        root = Path(chosen).expanduser()
    else:
        cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
        root = Path(cache).expanduser() / 'sparsevit_mm' / DEMO_VERSION
    return root.with_name(f'{root.name}-seed{seed}') if seed else root


def prepare_demo(
    root: str | os.PathLike | None = None,
    seed: int = 0,
    counts: dict[str, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Makes the demo set where it is not there yet, and says where it is.

    Of several processes one makes it and the others wait. It is written beside its place and moved there when it is
    complete, so an interrupted start leaves nothing that could be taken for it.

    Args:
        root: Directory of the set; the user's cache if not given.
        seed: Chooses the pictures. Another seed needs another directory.
        counts: Number of pictures of every split.
        progress: Called after each picture with the number made and the number of all.

    Raises:
        ValueError: If the directory holds something else, another seed or other counts, or lacks files.
    """
    root = Path(root).expanduser() if root is not None else default_demo_root(seed)
    wanted = dict(
        version=DEMO_VERSION,
        seed=seed,
        size=_SIZE,
        counts=dict(counts or SPLITS),
        photographs={split: list(names) for split, names in PHOTOGRAPHS.items()},
    )
    if _is_complete(root, wanted):
        return root
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with _locked(root.parent / f'.{root.name}.lock'):
            if not _is_complete(root, wanted):  # made by another process meanwhile
                _make(root, wanted, progress)
    except OSError as error:
        raise ValueError(
            f'The demo set cannot be written to {root}: {error}. Choose another directory by data_root, --out or '
            f'the environment variable SPARSEVIT_MM_DEMO.'
        ) from error
    return root


def _is_complete(root: Path, wanted: dict) -> bool:
    """Whether the set is there; False if nothing is."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / _MANIFEST).read_text())
    except (OSError, ValueError):
        raise ValueError(
            f'{root} is no demo set: it holds no readable {_MANIFEST}. Choose an empty or a new directory.'
        ) from None
    if found != wanted:
        told = {key: found.get(key) for key in wanted if found.get(key) != wanted[key]}
        raise ValueError(
            f'{root} holds another demo set ({told}, asked for { ({key: wanted[key] for key in told}) }). '
            f'Choose another directory, or delete this one to have it made anew.'
        )
    for split, count in wanted['counts'].items():
        for folder in ('images', 'labels'):
            number = sum(1 for _ in (root / folder / split).glob('[0-9]*'))
            if number != count:
                raise ValueError(
                    f'{root / folder / split} holds {number} files, not {count}. Delete {root} to have it made anew.'
                )
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a file lock, which the system takes back if the process dies."""
    with open(path, 'w') as file:
        try:
            import fcntl
        except ImportError:  # not a POSIX system: the final rename alone keeps the set whole
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(root: Path, manifest: dict, progress: Callable[[int, int], None] | None) -> None:
    for leftover in root.parent.glob(f'.{root.name}.part-*'):  # of an interrupted start; we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=f'.{root.name}.part-', dir=root.parent))
    part.chmod(0o755)
    try:
        done, total = 0, sum(manifest['counts'].values())
        for order, (split, count) in enumerate(manifest['counts'].items()):
            for _ in _write_split(part, split, count, (manifest['seed'], order)):
                done += 1
                if progress is not None:
                    progress(done, total)
        (part / _MANIFEST).write_text(json.dumps(manifest, indent=2))
        if root.exists():
            root.rmdir()  # seen to be empty
        part.rename(root)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_split(root: Path, split: str, count: int, seed: tuple[int, ...]) -> Iterator[None]:
    """Writes the pictures of a split one by one, its COCO file at the end."""
    for folder in ('images', 'labels'):
        (root / folder / split).mkdir(parents=True)
    source = DemoSource.load(split)
    coco = dict(
        info=dict(description=f'sparsevit_mm {DEMO_VERSION}, {split}'),
        categories=[dict(id=i, name=name) for i, name in enumerate(DEMO_CLASSES, 1)],
        images=[],
        annotations=[],
    )
    for index in range(count):
        scene = render_scene(source, _SIZE, np.random.default_rng((*seed, index)))
        name = f'{index:06d}'
        _imwrite(root / 'images' / split / f'{name}.jpg', scene.image[..., ::-1], cv2.IMWRITE_JPEG_QUALITY, 92)
        _imwrite(root / 'labels' / split / f'{name}.png', _semantic_map(scene))
        coco['images'].append(dict(id=index, file_name=f'{name}.jpg', height=_SIZE, width=_SIZE))
        for annotation in _annotations(scene):
            coco['annotations'].append(dict(id=len(coco['annotations']) + 1, image_id=index, **annotation))
        yield
    (root / 'annotations').mkdir(exist_ok=True)
    (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(coco))


def _imwrite(path: Path, image: np.ndarray, *options: int) -> None:
    encoded, data = cv2.imencode(path.suffix, image, options)
    assert encoded, path.suffix
    path.write_bytes(data.tobytes())  # cv2.imwrite returns False on a full disk; this raises OSError


def _semantic_map(scene: Scene) -> np.ndarray:
    labels = np.zeros(scene.image.shape[:2], np.uint8)
    for instance in scene.instances:
        labels[instance.mask] = instance.digit + 1
    return labels


def _annotations(scene: Scene) -> Iterator[dict]:
    for instance in scene.instances:
        rows, columns = np.nonzero(instance.mask)
        left, top = int(columns.min()), int(rows.min())
        width, height = int(columns.max()) + 1 - left, int(rows.max()) + 1 - top
        yield dict(
            category_id=instance.digit + 1,
            bbox=[left, top, width, height],
            area=len(rows),
            iscrowd=0,
            segmentation=_run_lengths(instance.mask),
        )


def _run_lengths(mask: np.ndarray) -> dict:
    """COCO's uncompressed form: lengths of runs down the columns, starting with one of zeros."""
    flat = mask.ravel(order='F').astype(np.int8)
    changes = np.flatnonzero(np.diff(flat, prepend=0, append=-1))
    return dict(size=list(mask.shape), counts=np.diff(changes, prepend=0).tolist())


def main(args: list[str] | None = None) -> None:
    """Command line of ``python -m sparsevit_mm.datasets.demo``."""
    from rich.console import Console
    from rich.progress import Progress

    parser = argparse.ArgumentParser(description='Make the embedded demo set of sparsevit_mm.')
    parser.add_argument('--out', type=Path, help=f'directory of the set (default: {default_demo_root()})')
    parser.add_argument('--seed', type=int, default=0, help='chooses the pictures (default: 0)')
    options = parser.parse_args(args)
    with Progress() as bar:
        task = bar.add_task('demo set', total=None)
        try:
            root = prepare_demo(
                options.out, options.seed, progress=lambda n, total: bar.update(task, completed=n, total=total)
            )
        except ValueError as error:
            parser.error(str(error))
    Console().print(f'The demo set is in {root}', soft_wrap=True)


if __name__ == '__main__':
    main()
