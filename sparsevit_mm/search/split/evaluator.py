"""The evaluator of a config, made to score a part of the training set."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...registry import type_name
from .dataset import OWN

__all__ = ['assert_scores_first_images', 'evaluator_of_part', 'scorable']

# Metrics that look for more than their annotation file where a whole split is expected to be.
_WHOLE_SET_METRICS = {
    'LyftMetric': 'it insists on all samples of its val split',
    'WaymoMetric': 'it reads the ground truth of the whole split from a binary file',
    'CocoPanopticMetric': 'its ground truth is a folder of PNG files beside the annotation file',
    'CityScapesMetric': 'it compares folders of the whole split',
    'CityscapesMetric': 'it compares folders of files (mmseg.IoUMetric does not)',
}
# Those that another metric can stand in for: its config, its main result, and why.
_STAND_INS = {
    'NuScenesMetric': (
        {'type': 'sparsevit_mm.CenterDistanceMetric'},
        'center_distance/mAP',
        'insists on its whole val split',
    )
}
_OUTPUTS = ('format_only', 'outfile_prefix', 'output_dir', 'pklfile_prefix', 'submission_prefix')


def _metrics(evaluator: Any) -> Iterator[dict]:
    if isinstance(evaluator, list | tuple):
        for metric in evaluator:
            yield from _metrics(metric)
    elif 'metrics' in evaluator:
        yield from _metrics(evaluator['metrics'])
    else:
        yield evaluator


def scorable(evaluator: Any) -> tuple[Any, list[str]]:
    """An evaluator that can score a part of a data set.

    Args:
        evaluator: That of the config, which is left alone.

    Returns:
        A copy, in which other metrics stand in for those that cannot, and a note on each of these for people.

    Raises:
        ValueError: If a metric cannot and none stands in for it.
    """
    evaluator, notes = copy.deepcopy(evaluator), []
    for metric in _metrics(evaluator):
        name = type_name(metric)
        if name in _WHOLE_SET_METRICS:
            raise ValueError(f'{name} cannot score a part of a data set: {_WHOLE_SET_METRICS[name]}. {OWN}')
        if name in _STAND_INS:
            stand_in, result, reason = _STAND_INS[name]
            metric.clear()
            metric.update(stand_in)
            notes.append(f'scored by {result}, since {name} {reason}')
    return evaluator, notes


def evaluator_of_part(evaluator: Any, part: Path | None) -> Any:
    """An evaluator that finds the ground truth of a part and writes no files.

    Args:
        evaluator: One that can score parts; it is left alone.
        part: Annotation file of the part, None where none can be made.

    Raises:
        ValueError: If a metric needs the file.
    """
    evaluator = copy.deepcopy(evaluator)
    for metric in _metrics(evaluator):
        if metric.get('ann_file') is not None:
            if part is None:
                raise ValueError(
                    f'{type_name(metric)} reads an annotation file, but the training set is not described by one of '
                    f'COCO or of mmengine that a part could be made of. {OWN}'
                )
            metric['ann_file'] = str(part)
        for output in _OUTPUTS:
            metric.pop(output, None)
    return evaluator


def assert_scores_first_images(evaluator: Any) -> None:
    """Raises if an evaluator that is used as it is cannot score the first images of its data set alone.

    Raises:
        ValueError: If a metric expects all images that its files describe.
    """
    for metric in _metrics(evaluator):
        name = type_name(metric)
        if metric.get('ann_file') is not None or name in _WHOLE_SET_METRICS or name in _STAND_INS:
            what = 'reads an annotation file' if metric.get('ann_file') is not None else 'expects a whole set'
            raise ValueError(
                f'{name} of search_evaluator {what}, so images that a candidate was not yet scored on would count as '
                f'misses. Leave multi-fidelity off, or take search_dataloader and search_evaluator out of the config: '
                f'of the training set, parts and their annotation files are made.'
            )
