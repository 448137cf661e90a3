"""The training set of a config as a search sees it: what it is read from, and how parts of it are made."""

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...files import written_whole
from ..fingerprint import jsonable

__all__ = ['OWN', 'ImageTable', 'assert_not_reported', 'assert_there', 'build_count', 'innermost', 'where']

OWN = (
    'Give the images to search on yourself: search_dataloader and search_evaluator in the config, written like '
    'val_dataloader and val_evaluator.'
)
# How a data set is read, not what is in it.
_MANNER = (
    *('type', 'pipeline', 'test_mode', 'filter_cfg', 'indices', 'metainfo', 'backend_args'),
    *('lazy_init', 'serialize_data', 'max_refetch'),
)


def innermost(dataset: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data set inside of wrappers that repeat, balance or mix it.

    Raises:
        ValueError: If several data sets are joined.
    """
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    if 'datasets' in dataset:
        raise ValueError(f'the data set is a {dataset["type"]} of several, of which no part can be chosen. {OWN}')
    return dataset


def _leaves(dataset: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Every data set inside of wrappers, those of joined ones included."""
    if 'dataset' in dataset:
        return _leaves(dataset['dataset'])
    if 'datasets' in dataset:
        return [leaf for part in dataset['datasets'] for leaf in _leaves(part)]
    return [dataset]


def _joined(dataset: Mapping[str, Any], path: str) -> str:
    root = dataset.get('data_root') or ''
    remote = '://' in path or path.startswith('s3:')
    return path if remote or os.path.isabs(path) else os.path.join(root, path)


def _paths(dataset: Mapping[str, Any]) -> set[str]:
    """The annotation file of a data set, otherwise its folders; nothing of one that finds its files itself."""
    places = [dataset.get('ann_file')] if dataset.get('ann_file') else (dataset.get('data_prefix') or {}).values()
    return {os.path.normpath(_joined(dataset, place)) for place in places if isinstance(place, str)}


def _sources(dataset: Mapping[str, Any]) -> set[str]:
    """What a data set is read from; its type and options where it finds its files itself."""
    found = set()
    for leaf in _leaves(dataset):
        options = ', '.join(f'{key}={jsonable(leaf[key])!r}' for key in leaf if key not in _MANNER)
        found |= _paths(leaf) or {f'{jsonable(leaf.get("type"))}({options})'}
    return found


def where(dataset: Mapping[str, Any]) -> str:
    """What a data set is read from, for messages."""
    return ', '.join(sorted(_sources(dataset)))


def assert_not_reported(dataset: Mapping[str, Any], cfg: Mapping[str, Any], keys: Sequence[str], name: str) -> None:
    """Raises if a data set is one that results are reported on.

    Args:
        dataset: What to search on.
        cfg: The whole config.
        keys: Its dataloaders whose data sets are reported.
        name: The dataloader of ``dataset``, for the message.

    Raises:
        ValueError: If both read the same files.
    """
    for key in keys:
        other = (cfg.get(key) or {}).get('dataset')
        shared = _sources(dataset) & _sources(other) if other else ()
        if shared:
            raise ValueError(
                f'{name} and {key} both read {", ".join(sorted(shared))}. A search must not choose by the set that is '
                f'reported: what it finds would look better than it is. {OWN}'
            )


def assert_there(dataset: Mapping[str, Any], what: str, name: str) -> None:
    """Raises if files of a data set are missing.

    Args:
        dataset: Its config.
        what: What it is, for the message.
        name: Its dataloader, for the message.

    Raises:
        ValueError: If there is no such file.
    """
    from mmengine import fileio

    for leaf in _leaves(dataset):
        for path in sorted(_paths(leaf)):
            if not fileio.exists(path, backend_args=leaf.get('backend_args')):
                raise ValueError(
                    f'the {what} is missing: there is no {path}. Put the data there, link it, or change data_root '
                    f'and the paths in {name} (--cfg-options {name}.dataset.data_root=...).'
                )


def build_count(dataset: Mapping[str, Any], what: str) -> int:
    """Images of a data set, told by its class.

    Args:
        dataset: Its config.
        what: What it is, for the message.

    Raises:
        ValueError: If it cannot be built.
    """
    from mmengine.registry import DATASETS

    try:
        return len(DATASETS.build(dict(dataset)))
    except (AssertionError, KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(f'the {what} cannot be built ({where(dataset)}): {error}') from error


class ImageTable:
    """The images of a training set, and annotation files of some of them.

    They are told by the annotation file where parts can be made of it (COCO's, or mmengine's with a data list),
    otherwise by the class of the data set. An entry that holds the images of several cameras, each of which is an
    image of the data set, counts as so many.

    ``file_suffix`` is the ending of annotation files of a part, None where they cannot be made.

    Args:
        dataset: Config of the data set.

    Raises:
        ValueError: If the annotation file cannot be read, or the data set cannot be built.
    """

    def __init__(self, dataset: Mapping[str, Any]) -> None:
        self._content = _read_annotations(dataset)
        self._key = next((key for key in ('images', 'data_list') if key in self._content), None)
        self.file_suffix = Path(dataset['ann_file']).suffix if self._key else None
        self._places: Sequence[tuple[int, str | None]] = ()
        if self._key is None:
            plain = {**dataset, 'pipeline': [], 'serialize_data': False}
            self._total = build_count(plain, 'training set')
            return
        cameras = dataset.get('load_type') == 'mv_image_based'
        self._places = [
            (i, camera)
            for i, entry in enumerate(self._content[self._key])
            for camera in (entry['images'] if cameras else (None,))
        ]
        self._total = len(self._places)

    def __len__(self) -> int:
        return self._total

    def write(self, chosen: Sequence[int], path: Path) -> None:
        """Writes the annotation file of a part, in a step: it is whole or not there.

        Args:
            chosen: Numbers of its images, in the order that the data set is to have.
            path: The file.
        """
        from mmengine import fileio

        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as unfinished:
            fileio.dump(self._part(chosen), unfinished)

    def _part(self, chosen: Sequence[int]) -> dict:
        entries = [self._entry(*self._places[i]) for i in chosen]
        part = {**self._content, self._key: entries}
        if self._key == 'images':
            ids = {image['id'] for image in entries}
            part['annotations'] = [a for a in self._content.get('annotations', ()) if a['image_id'] in ids]
        return part

    def _entry(self, number: int, camera: str | None) -> dict:
        entry = self._content[self._key][number]
        if camera is None:
            return entry
        # Copied, since the data set writes paths into what entries of a frame would share.
        single = copy.deepcopy({key: value for key, value in entry.items() if key not in ('images', 'cam_instances')})
        instances = entry.get('cam_instances') or {}
        single['images'] = {camera: entry['images'][camera]}
        single['cam_instances'] = {camera: instances[camera]} if camera in instances else {}
        return single


def _read_annotations(dataset: Mapping[str, Any]) -> dict:
    """The annotation file where it is one that parts can be made of, otherwise nothing."""
    from mmengine import fileio

    path = dataset.get('ann_file') or ''
    if Path(path).suffix not in ('.json', '.pkl'):
        return {}
    path = _joined(dataset, path)
    try:
        content = fileio.load(path, backend_args=dataset.get('backend_args'))
    except (ValueError, EOFError) as error:
        raise ValueError(f'annotation file {path} cannot be read: {error}') from error
    return content if isinstance(content, dict) else {}
