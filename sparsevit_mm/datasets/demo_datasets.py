"""The demo set as stock datasets of mmseg and mmdet, made on first use.

They are functions, so that neither mmseg nor mmdet is imported before a config asks for its dataset. What they
return are the stock classes: every tool, wrapper and sampler that knows those works.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ..registry import DATASETS

if TYPE_CHECKING:
    from mmdet.datasets import CocoDataset
    from mmseg.datasets import BaseSegDataset

__all__ = ['DEMO_CLASSES', 'DEMO_PALETTE', 'demo_coco_dataset', 'demo_seg_dataset']

DEMO_CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
# The colours of the plates; the background of semantic maps is grey.
DEMO_PALETTE = (
    (25, 25, 25),
    (120, 70, 30),
    (205, 35, 40),
    (245, 130, 40),
    (245, 215, 45),
    (40, 150, 70),
    (40, 70, 200),
    (205, 50, 185),
    (60, 200, 205),
    (240, 240, 240),
)


def _split_root(split: str, data_root: str | None, seed: int) -> Path:
    from .demo import SPLITS, prepare_demo

    if split not in SPLITS:
        raise ValueError(f'split of the demo set is {split!r}, but must be one of {", ".join(SPLITS)}.')
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f'seed of the demo set must be an integer from 0 on, got {seed!r}.')
    return prepare_demo(data_root, seed)


@DATASETS.register_module(name='DemoSegDataset')
def demo_seg_dataset(split: str, data_root: str | None = None, seed: int = 0, **kwargs: object) -> 'BaseSegDataset':
    """Semantic maps of the demo set: background, and number plates with one of ten digits.

    Args:
        split: ``'train'`` or ``'val'``.
        data_root: Where the set is or is to be made; the user's cache if not given.
        seed: Chooses the pictures; the sources of the splits stay apart.
        **kwargs: Further arguments of mmseg's ``BaseSegDataset``, such as ``pipeline`` or ``indices``.
    """
    from mmseg.datasets import BaseSegDataset

    root = _split_root(split, data_root, seed)
    prefix = dict(img_path=f'images/{split}', seg_map_path=f'labels/{split}')
    return BaseSegDataset(data_root=str(root), data_prefix=prefix, metainfo=demo_seg_dataset.METAINFO, **kwargs)


# Where mm classes have theirs, for those who ask a dataset type for its classes without building it.
demo_seg_dataset.METAINFO = dict(
    classes=('background', *DEMO_CLASSES), palette=[[128, 128, 128], *(list(colour) for colour in DEMO_PALETTE)]
)


@DATASETS.register_module(name='DemoCocoDataset')
def demo_coco_dataset(split: str, data_root: str | None = None, seed: int = 0, **kwargs: object) -> 'CocoDataset':
    """Boxes and instance masks of the number plates in the demo set, one category a digit.

    Args:
        split: ``'train'`` or ``'val'``.
        data_root: Where the set is or is to be made; the user's cache if not given.
        seed: Chooses the pictures; the sources of the splits stay apart.
        **kwargs: Further arguments of mmdet's ``CocoDataset``, such as ``pipeline`` or ``test_mode``.
    """
    from mmdet.datasets import CocoDataset

    root = _split_root(split, data_root, seed)
    return CocoDataset(
        data_root=str(root),
        ann_file=f'annotations/instances_{split}.json',
        data_prefix=dict(img=f'images/{split}/'),
        metainfo=demo_coco_dataset.METAINFO,
        **kwargs,
    )


demo_coco_dataset.METAINFO = dict(classes=DEMO_CLASSES, palette=list(DEMO_PALETTE))
