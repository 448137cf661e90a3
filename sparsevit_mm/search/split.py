"""The images that a search is scored on: a part of the training set, never the set that is reported.

What is chosen for on a set looks better on it than it is. So candidates are scored on training images, seen
through the test pipeline, and validation and test sets stay for the one number that is reported in the end.
"""

import copy
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .storage import jsonable

__all__ = ['SearchSplit', 'split_for_search']

DEFAULT_IMAGES = 500  # at most; of smaller training sets half
OWN = (
    'Give the images to search on yourself: search_dataloader and search_evaluator in the config, written like '
    'val_dataloader and val_evaluator.'
)
# Metrics that look for more than their annotation file where a whole split is expected to be.
_WHOLE_SET_METRICS = {
    'NuScenesMetric': 'it insists on all samples of its val split (sparsevit_mm.CenterDistanceMetric does not)',
    'LyftMetric': 'it insists on all samples of its val split',
    'WaymoMetric': 'it reads the ground truth of the whole split from a binary file',
    'CocoPanopticMetric': 'its ground truth is a folder of PNG files beside the annotation file',
    'CityScapesMetric': 'it compares folders of the whole split',
}


@dataclass(frozen=True)
class SearchSplit:
    """Where a search finds its images.

    Args:
        dataloader: Config of the dataloader.
        evaluator: Config of the evaluator, which fits these images.
        description: What was chosen, in a line for the report.
        fingerprint: JSON data that tells two choices apart.
    """

    dataloader: dict
    evaluator: Any
    description: str
    fingerprint: dict


def split_for_search(
    cfg: Mapping[str, Any], *, images: int | None, seed: int, folder: str | os.PathLike, write: bool = True
) -> SearchSplit:
    """Chooses the images of a search.

    Args:
        cfg: The whole config. Its ``search_dataloader`` and ``search_evaluator`` are taken where there are such.
        images: Number of training images, None for half of them, 500 at most.
        seed: Seed of the choice.
        folder: Where an annotation file of the chosen images is written, if the evaluator needs one.
        write: Whether to write it; of several ranks one does.

    Raises:
        ValueError: If the config has no training set, it is missing or empty, is the set that is reported, or its
            evaluator cannot work on a part of it.
    """
    if cfg.get('search_dataloader'):
        return _own_split(cfg)
    for key in ('train_dataloader', 'val_dataloader', 'val_evaluator'):
        if not cfg.get(key):
            raise ValueError(f'the config has no {key}, which tells what to search on. {OWN}')
    train = _innermost(cfg['train_dataloader']['dataset'])
    reference = _innermost(cfg['val_dataloader']['dataset'])
    _assert_not_reported(train, cfg, ('val_dataloader', 'test_dataloader'), 'train_dataloader')
    _assert_scorable(cfg['val_evaluator'])
    if images is not None and images < 1:
        raise ValueError(f'the number of search images must be at least 1, got {images}.')

    dataset = {key: copy.deepcopy(value) for key, value in train.items() if key not in ('filter_cfg', 'indices')}
    dataset.update(pipeline=copy.deepcopy(reference['pipeline']), test_mode=True)
    _assert_there(dataset)
    annotations = _read_annotations(dataset)
    table = next((key for key in ('images', 'data_list') if key in annotations), None)
    total = len(annotations[table]) if table else _count(dataset)
    if total == 0:
        raise ValueError(f'the training set is empty: {_where(dataset)}. Check its paths.')
    count = min(total, images or min(DEFAULT_IMAGES, (total + 1) // 2))
    chosen = sorted(random.Random(f'search split {seed}').sample(range(total), count))
    part = None
    if table:
        part = _path(folder, f'search_split{Path(dataset["ann_file"]).suffix}')
        if write:
            _dump(_part_of(annotations, table, chosen), part)
        dataset['ann_file'] = str(part)
    else:
        dataset['indices'] = chosen
    return SearchSplit(
        dataloader=_loader(cfg['val_dataloader'], dataset),
        evaluator=_evaluator(cfg['val_evaluator'], part),
        description=f'{count} of {total} training images ({_where(train)}), chosen by seed {seed}, test pipeline',
        fingerprint=jsonable(
            {
                'dataset': {**train, 'pipeline': reference['pipeline']},
                'evaluator': cfg['val_evaluator'],
                'images': count,
                'seed': seed,
            }
        ),
    )


def _own_split(cfg: Mapping[str, Any]) -> SearchSplit:
    if not cfg.get('search_evaluator'):
        raise ValueError('the config has search_dataloader, but no search_evaluator to score it. Give both.')
    loader, evaluator = copy.deepcopy(cfg['search_dataloader']), copy.deepcopy(cfg['search_evaluator'])
    dataset = _innermost(loader['dataset'])
    _assert_not_reported(dataset, cfg, ('test_dataloader',), 'search_dataloader')
    return SearchSplit(
        dataloader=loader,
        evaluator=evaluator,
        description=f"the config's search_dataloader ({_where(dataset)})",
        fingerprint=jsonable({'dataset': dataset, 'evaluator': evaluator}),
    )


def _innermost(dataset: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data set inside of wrappers that repeat, balance or mix it."""
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    if 'datasets' in dataset:
        raise ValueError(f'the data set is a {dataset["type"]} of several, of which no part can be chosen. {OWN}')
    return dataset


def _joined(dataset: Mapping[str, Any], path: str) -> str:
    root = dataset.get('data_root') or ''
    remote = '://' in path or path.startswith('s3:')
    return path if remote or os.path.isabs(path) else os.path.join(root, path)


def _sources(dataset: Mapping[str, Any]) -> set[str]:
    """The files and folders that a data set is read from: the annotation file, otherwise its folders."""
    places = [dataset.get('ann_file')] if dataset.get('ann_file') else (dataset.get('data_prefix') or {}).values()
    return {os.path.normpath(_joined(dataset, place)) for place in places if isinstance(place, str)}


def _where(dataset: Mapping[str, Any]) -> str:
    return ', '.join(sorted(_sources(dataset))) or str(dataset.get('type'))


def _assert_not_reported(dataset: Mapping[str, Any], cfg: Mapping[str, Any], keys: Sequence[str], name: str) -> None:
    for key in keys:
        other = (cfg.get(key) or {}).get('dataset')
        if other is None or 'datasets' in other:
            continue
        shared = _sources(dataset) & _sources(_innermost(other))
        if shared:
            raise ValueError(
                f'{name} and {key} both read {", ".join(sorted(shared))}. A search must not choose by the set that is '
                f'reported: what it finds would look better than it is. {OWN}'
            )


def _assert_there(dataset: Mapping[str, Any]) -> None:
    from mmengine import fileio

    for path in _sources(dataset):
        if not fileio.exists(path, backend_args=dataset.get('backend_args')):
            raise ValueError(
                f'the training set is missing: there is no {path}. Put the data there, link it, or change data_root '
                f'and the paths in train_dataloader (--cfg-options train_dataloader.dataset.data_root=...).'
            )


def _read_annotations(dataset: Mapping[str, Any]) -> dict:
    """The annotation file where it is one that parts can be made of: COCO's, or mmengine's with a data list."""
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


def _part_of(annotations: Mapping[str, Any], table: str, chosen: Sequence[int]) -> dict:
    """An annotation file with the chosen entries of its table of images, and what belongs to them."""
    part = {**annotations, table: [annotations[table][i] for i in chosen]}
    if table == 'images':
        ids = {image['id'] for image in part['images']}
        part['annotations'] = [a for a in annotations.get('annotations', ()) if a['image_id'] in ids]
    return part


def _path(folder: str | os.PathLike, name: str) -> Path:
    return Path(folder).resolve() / name


def _dump(content: dict, path: Path) -> None:
    """Writes a file that is whole or not there."""
    from mmengine import fileio

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'.{os.getpid()}.{path.name}')
    fileio.dump(content, unfinished)
    unfinished.replace(path)


def _count(dataset: Mapping[str, Any]) -> int:
    """Images of a data set that only its class knows how to list."""
    from mmengine.registry import DATASETS

    try:
        return len(DATASETS.build({**dataset, 'pipeline': [], 'serialize_data': False}))
    except (AssertionError, KeyError, TypeError) as error:
        raise ValueError(f'the training set cannot be built ({_where(dataset)}): {error}') from error


def _loader(template: Mapping[str, Any], dataset: dict) -> dict:
    """The validation dataloader over another data set, every image once and in order."""
    loader = {key: copy.deepcopy(value) for key, value in template.items() if key not in ('dataset', 'batch_sampler')}
    loader.update(dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False))
    return loader


def _metrics(evaluator: Any) -> Iterator[dict]:
    if isinstance(evaluator, list | tuple):
        for metric in evaluator:
            yield from _metrics(metric)
    elif 'metrics' in evaluator:
        yield from _metrics(evaluator['metrics'])
    else:
        yield evaluator


def _name(metric: Mapping[str, Any]) -> str:
    return getattr(metric['type'], '__name__', str(metric['type'])).rpartition('.')[-1]


def _assert_scorable(evaluator: Any) -> None:
    for metric in _metrics(evaluator):
        name = _name(metric)
        if name in _WHOLE_SET_METRICS:
            raise ValueError(f'{name} cannot score a part of a data set: {_WHOLE_SET_METRICS[name]}. {OWN}')


def _evaluator(template: Any, part: Path | None) -> Any:
    """The validation evaluator, made to find the ground truth of the chosen images."""
    evaluator = copy.deepcopy(template)
    for metric in _metrics(evaluator):
        if metric.get('ann_file') is not None:
            if part is None:
                raise ValueError(
                    f'{_name(metric)} reads an annotation file, but the training set is not described by one of COCO '
                    f'or of mmengine that a part could be made of. {OWN}'
                )
            metric['ann_file'] = str(part)
        metric.pop('format_only', None)
        for output in ('outfile_prefix', 'output_dir', 'pklfile_prefix', 'submission_prefix'):
            metric.pop(output, None)
    return evaluator
