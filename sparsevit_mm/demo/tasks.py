"""What differs between the three kinds of models: how predictions are drawn, and how far two of them agree."""

from typing import Any

import numpy as np
from torch import nn

from ..visualization import MapChange, ObjectChange, PredictionPainter, compare_predictions, stock_visualizer
from .cameras import KITTI, NUSCENES
from .pictures import LONGEST, PreparedPicture

__all__ = ['Task', 'focal_of', 'task_of']

# Package -> what its models are called, which picture predictions are for (see PictureReader), the least score.
# The boxes of 3D detectors and their camera are those of the picture that the network sees.
KINDS = {
    'mmseg': ('segmentor', 'smaller', 0.0),
    'mmdet': ('detector', 'file', 0.3),
    'mmdet3d': ('monocular 3D detector', 'seen', 0.1),
}


class Task:
    """What a page needs of a kind of model.

    Args:
        name: For people.
        canvas: Which picture predictions are for, see :class:`PictureReader`.
        meta: Names and colours of the classes.
        score_thr: Objects with no higher score are neither drawn nor counted.
    """

    def __init__(self, name: str, canvas: str, meta: dict[str, Any], score_thr: float) -> None:
        self.name, self.canvas = name, canvas
        self._meta, self._score_thr = meta, score_thr
        self._painter: PredictionPainter | None = None

    def draw(self, picture: PreparedPicture, sample: Any) -> np.ndarray:
        """A prediction on its picture, uint8 RGB."""
        if self._painter is None:
            visualizer = stock_visualizer(sample, self._meta)
            self._painter = PredictionPainter(visualizer, self._score_thr, LONGEST, with_labels=True)
        return self._painter.paint(picture.canvas, sample)

    def compare(self, picture: PreparedPicture, dense: Any, sparse: Any) -> str:
        """How far the prediction of the sparse model is that of the dense one, in a sentence."""
        return self._sentence(compare_predictions(dense, sparse, picture.canvas.shape[:2], self._score_thr))

    def _sentence(self, change: MapChange | ObjectChange | None) -> str:
        if change is None:
            return ''
        if isinstance(change, MapChange):
            return f'{1 - change.share:.1%} of the pixels get the same class as from the dense model.'
        before, after = len(change.before), len(change.after)
        above = f'above a score of {self._score_thr:g}'
        if not before:
            return f'The dense model finds nothing {above}, the sparse one {after or "neither"}.'
        boxes = f'{before} box{"es" * (before != 1)}'
        return f'{len(change.kept)} of the {boxes} that the dense model finds {above} are found again, among {after}.'


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
    if scope not in KINDS:
        raise ValueError(
            f"default_scope of the config is {scope!r}; models of 'mmdet', 'mmseg' and 'mmdet3d' can be shown."
        )
    if scope == 'mmdet3d' and 'Mono3D' not in str(model.cfg.get('test_dataloader')):
        raise ValueError('Of mmdet3d, monocular detectors can be shown: those whose test pipeline loads one image.')
    name, canvas, usual = KINDS[scope]
    return Task(name, canvas, dict(model.dataset_meta), usual if score_thr is None else score_thr)


def focal_of(model: nn.Module) -> float:
    """Focal length by image width of the cameras that a monocular 3D detector was made for."""
    return KITTI if 'kitti' in str(model.cfg.get('test_dataloader')).lower() else NUSCENES
