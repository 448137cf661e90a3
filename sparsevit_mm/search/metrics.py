"""Which of an evaluator's numbers is searched for, and whether more of it is better."""

import math
import re
from collections.abc import Mapping
from numbers import Real

__all__ = ['first_metric', 'higher_is_better', 'pick_metric']

# In this order, the first one that the evaluator gives is taken where the user names none. SparseViT searches
# by box AP, also for instance segmentation.
_PRIMARY = (
    'coco/bbox_mAP',
    'mIoU',
    'coco/segm_mAP',
    'coco_panoptic/PQ',
    'pascal_voc/mAP',
    'pred_instances_3d/KITTI/Overall_3D_AP40_moderate',
    'NDS',
    'accuracy/top1',
)
_LOWER = re.compile(r'(^|[^a-z])(loss|err|error|rmse|mae|silog|abs_?rel|sq_?rel|ma(te|se|oe|ve|ae))($|[^a-z])')


def higher_is_better(name: str) -> bool:
    """Whether a metric of this name grows with quality; losses and errors do not."""
    return not _LOWER.search(name.lower())


def pick_metric(metrics: Mapping[str, object], name: str | None = None) -> str:
    """The full name of the metric that a search goes by.

    A given name may leave out the prefix (``bbox_mAP`` for ``coco/bbox_mAP``) where that is unambiguous.
    Without one the first of the usual primary metrics is taken, otherwise the evaluator's first number.

    Args:
        metrics: What the evaluator gave.
        name: What the user asked for.

    Raises:
        ValueError: If the evaluator gives no such number, or none at all.
    """
    numbers = [key for key, value in metrics.items() if isinstance(value, Real) and not isinstance(value, bool)]
    listed = ', '.join(numbers) or 'none'
    if name is not None:
        found = [key for key in numbers if key == name] or [key for key in numbers if key.split('/')[-1] == name]
        if len(found) != 1:
            raise ValueError(
                f'metric {name!r} is {"ambiguous among" if found else "not among"} what the evaluator gives: {listed}. '
                f'Name one of these.'
            )
        return found[0]
    finite = [key for key in numbers if not math.isnan(metrics[key])]
    for primary in _PRIMARY:
        for key in finite:
            if key == primary or key.split('/')[-1] == primary:
                return key
    if not finite:
        raise ValueError(
            f'the evaluator gives no number that a search could go by (it gives {listed}). Check that the search '
            f'images have annotations and that the evaluator is not in format_only mode.'
        )
    return finite[0]


def first_metric(metrics: Mapping[str, object], name: str | None, higher: bool) -> str:
    """The full name of the metric of a search, by the first result.

    Args:
        metrics: What the evaluator gave.
        name: What the user asked for.
        higher: Whether higher is taken for better.

    Raises:
        ValueError: If there is no such metric, or none was asked for and the evaluator's first one is better lower.
    """
    picked = pick_metric(metrics, name)
    if name is None and higher and not higher_is_better(picked):
        raise ValueError(
            f'the first metric that the evaluator gives, {picked}, is one of the lower-is-better kind. Name the '
            f'metric to search by with --metric; there are {", ".join(metrics)}.'
        )
    return picked
