"""What differs between the three kinds of models: how predictions are drawn, and how far two of them agree."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from .cameras import KITTI, NUSCENES
from .pictures import PreparedPicture

__all__ = ['Task', 'focal_of', 'task_of']

SAME_BOX = 0.5  # overlap of boxes that are one object
SAME_PLACE = 2.0  # metres between the centres of boxes that are one object
ALPHA = 0.5  # of the colours of classes over a picture


class Task(Protocol):
    """What a page needs of a kind of model.

    Attributes:
        name: For people.
        canvas: Which picture predictions are for, see :class:`PictureReader`.
    """

    name: str
    canvas: str

    def draw(self, picture: PreparedPicture, sample: Any) -> np.ndarray:
        """A prediction on its picture, uint8 RGB."""

    def compare(self, dense: Any, sparse: Any) -> str:
        """How far the prediction of the sparse model is that of the dense one, in a sentence."""


def task_of(model: nn.Module, score_thr: float | None = None) -> Task:
    """The task of a model that ``build_model`` has built.

    Args:
        model: With its config.
        score_thr: Least score of a box that is drawn and counted; what is usual for the task if not given.

    Raises:
        ValueError: If it is no detector, segmentor or monocular 3D detector, or the score is none.
    """
    if score_thr is not None and not 0 <= score_thr < 1:
        raise ValueError(f'score_thr must be in [0, 1), the least score of a box that is drawn, got {score_thr}.')
    scope = model.cfg.get('default_scope')
    if scope == 'mmseg':
        return Segmentation(model)
    if scope == 'mmdet':
        return Detection(model, 0.3 if score_thr is None else score_thr)
    if scope == 'mmdet3d':
        if 'Mono3D' not in str(model.cfg.get('test_dataloader')):
            raise ValueError('Of mmdet3d, monocular detectors can be shown: those whose test pipeline loads one image.')
        return Detection3D(model, 0.1 if score_thr is None else score_thr)
    raise ValueError(
        f"default_scope of the config is {scope!r}; models of 'mmdet', 'mmseg' and 'mmdet3d' can be shown."
    )


def focal_of(model: nn.Module) -> float:
    """Focal length by image width of the cameras that a monocular 3D detector was made for."""
    return KITTI if 'kitti' in str(model.cfg.get('test_dataloader')).lower() else NUSCENES


class Segmentation:
    """Classes of pixels."""

    name, canvas = 'segmentor', 'smaller'

    def __init__(self, model: nn.Module) -> None:
        from mmseg.visualization import SegLocalVisualizer

        number = model.decode_head[-1] if isinstance(model.decode_head, nn.ModuleList) else model.decode_head
        self._visualizer = SegLocalVisualizer(name='sparsevit_mm_demo', alpha=ALPHA)
        self._visualizer.dataset_meta = _classes_and_colours(model.dataset_meta, number.num_classes)

    def draw(self, picture: PreparedPicture, sample: Any) -> np.ndarray:
        """Classes as colours, named."""
        return _drawn(self._visualizer, picture, sample)

    def compare(self, dense: Any, sparse: Any) -> str:
        """Pixels of the same class."""
        same = (dense.pred_sem_seg.data == sparse.pred_sem_seg.data).float().mean()
        return f'{float(same):.1%} of the pixels get the same class as from the dense model.'


class Detection:
    """Boxes, with masks or without."""

    name, canvas = 'detector', 'file'

    def __init__(self, model: nn.Module, score_thr: float) -> None:
        from mmdet.visualization import DetLocalVisualizer

        self._score_thr = score_thr
        self._visualizer = DetLocalVisualizer(name='sparsevit_mm_demo')
        self._visualizer.dataset_meta = dict(model.dataset_meta)

    def draw(self, picture: PreparedPicture, sample: Any) -> np.ndarray:
        """Boxes above the least score."""
        return _drawn(self._visualizer, picture, sample, pred_score_thr=self._score_thr)

    def compare(self, dense: Any, sparse: Any) -> str:
        """Boxes that are found again."""
        if 'pred_instances' not in dense:
            return ''
        first, second = (
            instances[instances.scores > self._score_thr] for instances in (dense.pred_instances, sparse.pred_instances)
        )
        same = _overlaps(first.bboxes, second.bboxes) >= SAME_BOX
        return _found_again(same, first.labels, second.labels, self._score_thr)


class Detection3D:
    """Boxes in space, seen by one camera."""

    # The boxes and their camera are those of the picture that the network sees.
    name, canvas = 'monocular 3D detector', 'seen'

    def __init__(self, model: nn.Module, score_thr: float) -> None:
        from mmdet3d.visualization import Det3DLocalVisualizer

        self._score_thr = score_thr
        self._visualizer = Det3DLocalVisualizer(name='sparsevit_mm_demo')
        self._visualizer.dataset_meta = dict(model.dataset_meta)

    def draw(self, picture: PreparedPicture, sample: Any) -> np.ndarray:
        """Boxes above the least score, projected."""
        drawn = []
        self._visualizer.add_image = lambda name, image, step=0: drawn.append(image)
        self._visualizer.add_datasample(
            'demo', dict(img=picture.canvas), sample, draw_gt=False, pred_score_thr=self._score_thr
        )
        return picture.canvas if drawn[-1] is None else drawn[-1]

    def compare(self, dense: Any, sparse: Any) -> str:
        """Boxes that are found again."""
        first, second = (
            instances[instances.scores_3d > self._score_thr]
            for instances in (dense.pred_instances_3d, sparse.pred_instances_3d)
        )
        ours, theirs = (boxes.bboxes_3d.center[:, [0, 2]] for boxes in (first, second))
        near = (ours[:, None] - theirs[None]).norm(dim=-1) <= SAME_PLACE
        return _found_again(near, first.labels_3d, second.labels_3d, self._score_thr)


def _drawn(visualizer: Any, picture: PreparedPicture, sample: Any, **options: Any) -> np.ndarray:
    state = np.random.get_state()
    np.random.seed(0)  # mmdet varies the colours of masks at random, which would make equal predictions look different
    try:
        visualizer.add_datasample('demo', picture.canvas, sample.cpu(), draw_gt=False, **options)
    finally:
        np.random.set_state(state)
    return visualizer.get_image()


def _found_again(same: Tensor, dense: Tensor, sparse: Tensor, score_thr: float) -> str:
    """From which boxes are in one place ``[N, M]``, and their labels."""
    found = int((same & (dense[:, None] == sparse[None])).any(1).sum()) if same.numel() else 0
    above = f'above a score of {score_thr:g}'
    if not len(dense):
        return f'The dense model finds nothing {above}, the sparse one {len(sparse) or "neither"}.'
    boxes = f'{len(dense)} box{"es" * (len(dense) != 1)}'
    return f'{found} of the {boxes} that the dense model finds {above} are found again, among {len(sparse)}.'


def _overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes ``[N, 4]`` and ``[M, 4]``."""
    corner = first[:, None, :2].maximum(second[None, :, :2])
    opposite = first[:, None, 2:].minimum(second[None, :, 2:])
    shared = (opposite - corner).clamp(min=0).prod(-1)
    area: Callable[[Tensor], Tensor] = lambda boxes: (boxes[:, 2:] - boxes[:, :2]).prod(-1)  # noqa: E731
    return shared / (area(first)[:, None] + area(second)[None] - shared).clamp(min=1e-6)


def _classes_and_colours(meta: dict[str, Any], number: int) -> dict[str, Sequence]:
    """Names and colours for every class, made up where a data set has none."""
    classes = meta.get('classes') or [f'class {i}' for i in range(number)]
    palette = meta.get('palette')
    if not isinstance(palette, Sequence) or isinstance(palette, str) or len(palette) < len(classes):
        palette = np.random.default_rng(0).integers(0, 256, (len(classes), 3)).tolist()
    return dict(classes=classes, palette=palette)
