"""The images that a search is scored on: a part of the training set, never the set that is reported.

What is chosen for on a set looks better on it than it is. So candidates are scored on training images, seen
through the test pipeline, and validation and test sets stay for the one number that is reported in the end.

A candidate may be scored in steps, on the first images and then on more (*rungs*), and given up on the way. The
first images are a random part of the chosen ones, and each rung is a part of the next.
"""

import copy
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from ...registry import type_name
from ..fingerprint import jsonable
from .dataset import OWN, ImageTable, assert_not_reported, assert_there, build_count, innermost, where
from .evaluator import assert_scores_first_images, evaluator_of_part, scorable

__all__ = ['Rung', 'SearchSplit', 'split_for_search']

DEFAULT_IMAGES = 500  # at most; of smaller training sets half
# What a training set has that the part of it is to be without.
_TRAINING_ONLY = ('filter_cfg', 'indices', 'load_eval_anns')


@dataclass(frozen=True)
class Rung:
    """A number of images that a candidate is scored on.

    Args:
        images: The first images in the order of the dataloader, None for all of a data set that was not counted.
        evaluator: Config of the evaluator, which fits exactly these images.
    """

    images: int | None
    evaluator: Any


@dataclass(frozen=True)
class SearchSplit:
    """Where a search finds its images.

    Args:
        dataloader: Config of the dataloader.
        evaluator: Config of the evaluator, which fits these images.
        description: What was chosen, in a line for the report.
        fingerprint: JSON data that tells two choices apart.
        rungs: Numbers of images that a candidate is scored on, ascending; the last one is all images.
    """

    dataloader: dict
    evaluator: Any
    description: str
    fingerprint: dict
    rungs: tuple[Rung, ...]


def split_for_search(
    cfg: Mapping[str, Any],
    *,
    images: int | None,
    seed: int,
    folder: str | os.PathLike,
    write: bool = True,
    rungs: Sequence[float | int] = (),
) -> SearchSplit:
    """Chooses the images of a search.

    Args:
        cfg: The whole config. Its ``search_dataloader`` and ``search_evaluator`` are taken where there are such.
        images: Number of training images, None for half of them, 500 at most.
        seed: Seed of the choice.
        folder: Where annotation files of the chosen images are written, if the evaluator needs them.
        write: Whether to write them; of several ranks one does.
        rungs: After how many images a candidate may be given up, ascending: fractions of the chosen ones, or
            numbers of images. Those that are not fewer than all, or the same for a small set, are left out.

    Raises:
        ValueError: If the config has no training set, it is missing or empty, is the set that is reported, or its
            evaluator cannot work on a part of it; or if a rung is out of range.
    """
    _assert_rungs(rungs)
    if cfg.get('search_dataloader'):
        return _own_split(cfg, rungs)
    if images is not None and images < 1:
        raise ValueError(f'the number of search images must be at least 1, got {images}.')
    train, dataset, table = _training_images(cfg)
    evaluator, notes = scorable(cfg['val_evaluator'])
    count = min(len(table), images or min(DEFAULT_IMAGES, (len(table) + 1) // 2))
    counts = _counts(rungs, count)
    order = _ordered(random.Random(f'search split {seed}').sample(range(len(table)), count), counts)
    parts = [None] * len(counts)
    if table.file_suffix:
        parts = [_path(folder, number, count, table.file_suffix) for number in counts]
        for number, part in zip(counts, parts) if write else ():
            table.write(order[:number], part)
    dataset.update({'ann_file': str(parts[-1])} if table.file_suffix else {'indices': order})
    steps = tuple(Rung(number, evaluator_of_part(evaluator, part)) for number, part in zip(counts, parts))
    chosen = f'{count} of {len(table)} training images ({where(train)}), chosen by seed {seed}, test pipeline'
    fingerprint = {
        'dataset': {**train, 'pipeline': dataset['pipeline']},
        'evaluator': evaluator,
        'images': count,
        'seed': seed,
        **_rungs_of(counts),
    }
    return SearchSplit(
        dataloader=_loader(cfg['val_dataloader'], dataset),
        evaluator=steps[-1].evaluator,
        description='; '.join([chosen, *notes, *_stops(counts, 'them')]),
        fingerprint=jsonable(fingerprint),
        rungs=steps,
    )


def _training_images(cfg: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict, ImageTable]:
    """The training set as the config has it, as it is to be tested on, and its images."""
    for key in ('train_dataloader', 'val_dataloader', 'val_evaluator'):
        if not cfg.get(key):
            raise ValueError(f'the config has no {key}, which tells what to search on. {OWN}')
    train, reference = (innermost(cfg[key]['dataset']) for key in ('train_dataloader', 'val_dataloader'))
    assert_not_reported(train, cfg, ('val_dataloader', 'test_dataloader'), 'train_dataloader')
    dataset = {key: copy.deepcopy(value) for key, value in train.items() if key not in _TRAINING_ONLY}
    dataset.update(pipeline=copy.deepcopy(reference['pipeline']), test_mode=True)
    assert_there(dataset, 'training set', 'train_dataloader')
    table = ImageTable(dataset)
    if len(table) == 0:
        raise ValueError(f'the training set is empty: {where(dataset)}. Check its paths.')
    return train, dataset, table


def _own_split(cfg: Mapping[str, Any], rungs: Sequence[float | int]) -> SearchSplit:
    """The images that the config gives itself."""
    if not cfg.get('search_evaluator'):
        raise ValueError('the config has search_dataloader, but no search_evaluator to score it. Give both.')
    loader, evaluator = copy.deepcopy(cfg['search_dataloader']), copy.deepcopy(cfg['search_evaluator'])
    whole = loader['dataset']
    assert_not_reported(whole, cfg, ('test_dataloader',), 'search_dataloader')
    assert_there(whole, 'search set', 'search_dataloader')
    counts: tuple[int | None, ...] = (None,)
    if rungs:
        _assert_in_order(loader)
        assert_scores_first_images(evaluator)
        total = build_count(whole, 'search set')
        if total == 0:
            raise ValueError(f'the search set is empty: {where(whole)}. Check its paths.')
        counts = _counts(rungs, total)
    dataset = whole
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return SearchSplit(
        dataloader=loader,
        evaluator=evaluator,
        description='; '.join(
            [f"the config's search_dataloader ({where(whole)})", *_stops(counts, f'its {counts[-1]} images')]
        ),
        fingerprint=jsonable({'dataset': dataset, 'evaluator': evaluator, **_rungs_of(counts)}),
        rungs=tuple(Rung(number, copy.deepcopy(evaluator)) for number in counts),
    )


def _assert_rungs(rungs: Sequence[float | int]) -> None:
    for rung in rungs:
        whole = isinstance(rung, Integral) and not isinstance(rung, bool)
        if not (rung >= 1 if whole else isinstance(rung, Real) and 0 < rung < 1):
            raise ValueError(
                f'rungs has {rung!r}, but a rung is a fraction of the search images between 0 and 1, or a number of '
                f'images, at least 1.'
            )


def _counts(rungs: Sequence[float | int], total: int) -> tuple[int, ...]:
    """Numbers of images, ascending and distinct, the last one all.

    Raises:
        ValueError: If they do not ascend.
    """
    numbers = [int(rung) if isinstance(rung, Integral) else max(1, round(rung * total)) for rung in rungs]
    for i in range(1, len(numbers)):
        if numbers[i] < numbers[i - 1]:
            raise ValueError(
                f'rungs must ascend, but {rungs[i]!r} of {total} images comes after {rungs[i - 1]!r}. Sort them.'
            )
    return (*sorted({number for number in numbers if number < total}), total)


def _ordered(drawn: Sequence[int], counts: Sequence[int]) -> list[int]:
    """Images in the order that they are scored in: rung by rung as drawn, within a rung as in the data set."""
    starts = (0, *counts)
    return [image for start, end in zip(starts, counts) for image in sorted(drawn[start:end])]


def _assert_in_order(loader: Mapping[str, Any]) -> None:
    sampler = loader.get('sampler') or {}
    if type_name(sampler) != 'DefaultSampler' or sampler.get('shuffle', True):
        raise ValueError(
            f'search_dataloader has the sampler {jsonable(sampler)}, but the first images must be the same for every '
            f"candidate: take dict(type='DefaultSampler', shuffle=False), or leave multi-fidelity off."
        )


def _rungs_of(counts: Sequence[int | None]) -> dict[str, list[int]]:
    """What rungs add to a fingerprint: nothing where there are none."""
    return {'rungs': list(counts[:-1])} if len(counts) > 1 else {}


def _stops(counts: Sequence[int | None], of: str) -> list[str]:
    if len(counts) == 1:
        return []
    *most, last = map(str, counts[:-1])
    numbers = f'{", ".join(most)} or {last}' if most else last
    return [f'candidates are stopped after {numbers} of {of}']


def _path(folder: str | os.PathLike, number: int, total: int, suffix: str) -> Path:
    """Annotation file of the first images."""
    return Path(folder).resolve() / f'search_split{"" if number == total else f"_{number}"}{suffix}'


def _loader(template: Mapping[str, Any], dataset: dict) -> dict:
    """The validation dataloader over another data set, every image once and in order."""
    replaced = ('dataset', 'batch_sampler', 'drop_last')
    loader = {key: copy.deepcopy(value) for key, value in template.items() if key not in replaced}
    loader.update(dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False))
    return loader
