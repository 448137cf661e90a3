"""Predictions and labels as pictures, by the visualizers of mmdet, mmseg and mmdet3d themselves."""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from matplotlib import colormaps
from mmengine.registry import VISUALIZERS
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer

from .samples import class_map, objects_of, shrink_sample

__all__ = ['PredictionPainter', 'class_colours', 'fit_image', 'stock_visualizer']

_STOCK = {'mmdet': 'DetLocalVisualizer', 'mmseg': 'SegLocalVisualizer', 'mmdet3d': 'Det3DLocalVisualizer'}
_UNNAMED = 256  # classes, where a data set has no names
_MARK = 5  # radius in pixels of the mark on the centre of a 3D box


class PredictionPainter:
    """Draws data samples by a visualizer of an mm package, and gives the pictures back instead of storing them.

    Large images are made smaller first: the boxes and texts of those visualizers are of one size in pixels.

    Args:
        visualizer: Draws; the backends of it get nothing, and its settings stay.
        score_thr: Objects with no higher score are left out.
        longest: Longer side of the pictures in pixels, where images are larger.
        with_labels: Whether maps of classes carry their names. That takes seconds of a large map, so sheets have a
            legend instead.
    """

    def __init__(
        self, visualizer: Visualizer, score_thr: float = 0.3, longest: int = 720, with_labels: bool = False
    ) -> None:
        self._visualizer = copy.copy(visualizer)
        self._visualizer._vis_backends = {'catch': self}
        self._visualizer.dataset_meta = _with_tuples(visualizer.dataset_meta)
        self._visualizer.set_image = self._set_image
        self._options = inspect.signature(visualizer.add_datasample).parameters
        self._caught: np.ndarray | None = None
        self.score_thr = score_thr
        self.longest = longest
        self.with_labels = with_labels

    @property
    def meta(self) -> Mapping[str, Any]:
        """Names and colours of the classes."""
        return self._visualizer.dataset_meta

    def add_image(self, name: str, image: np.ndarray | None, step: int = 0) -> None:
        """Takes what the visualizer has drawn, in place of its backends."""
        self._caught = image

    def paint(self, image: np.ndarray, sample: BaseDataElement, truth: bool = False) -> np.ndarray:
        """The image with what is predicted, or with what is true; the plain image where that is nothing.

        Args:
            image: uint8 RGB of the size that the sample speaks of.
            sample: A data sample of one of the packages.
            truth: Whether to draw the labels in place of the prediction.
        """
        image, factor = fit_image(image, self.longest)
        small = shrink_sample(sample, image.shape[:2], factor, self.score_thr)
        asked = dict(draw_gt=truth, draw_pred=not truth)
        asked |= {name: value for name, value in self._extras().items() if name in self._options}
        data = dict(img=image) if 'data_input' in self._options else image
        self._caught = None
        with _fixed_numpy_random_state():
            self._visualizer.add_datasample('picture', data, data_sample=small, **asked)
        return image if self._caught is None else self._caught

    def paint_centers(self, image: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """The image with a mark on the centre of each 3D box, where there is no camera to draw boxes by."""
        image, factor = fit_image(image, self.longest)
        objects = objects_of(sample, self.score_thr)
        self._visualizer.set_image(image)
        if len(objects):
            places = objects.centers * factor
            inside = ((places >= 0) & (places < image.shape[1::-1])).all(1)
            names = [self._name(label) for label in objects.labels[inside]]
            texts = [f'{name}: {100 * score:.1f}' for name, score in zip(names, objects.scores[inside])]
            places = places[inside]
            if len(places):
                self._visualizer.draw_circles(places, np.full(len(places), _MARK), edge_colors='w', face_colors='r')
                box = dict(facecolor='black', alpha=0.8, pad=0.7, edgecolor='none')
                self._visualizer.draw_texts(texts, places + _MARK, font_sizes=9, colors='w', bboxes=box)
        return self._visualizer.get_image()

    def _set_image(self, image: np.ndarray) -> None:
        type(self._visualizer).set_image(self._visualizer, image)
        self._visualizer.ax_save.autoscale(False)  # a 3D box that reaches over the edge would make the image smaller

    def _extras(self) -> dict[str, Any]:
        """What some of the visualizers take."""
        return dict(with_labels=self.with_labels, pred_score_thr=self.score_thr, vis_task='mono_det')

    def _name(self, label: int) -> str:
        classes = self.meta.get('classes')
        return classes[label] if classes else f'class {label}'


def fit_image(image: np.ndarray, longest: int) -> tuple[np.ndarray, float]:
    """An image made smaller where its longer side has more pixels, and the factor."""
    height, width = image.shape[:2]
    factor = min(1.0, longest / max(height, width))
    if factor == 1:
        return image, factor
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), factor


def stock_visualizer(sample: BaseDataElement, meta: Mapping[str, Any] | None, camera: bool = True) -> Visualizer:
    """The visualizer of the package that a data sample is from.

    Args:
        sample: A data sample.
        meta: Names and colours of the classes as data sets have them, ``'random'`` included.
        camera: Whether 3D boxes can be drawn; if not, objects are drawn in the image only.

    Raises:
        ValueError: If the sample is from another package.
    """
    package = type(sample).__module__.partition('.')[0]
    if package not in _STOCK:
        known = ', '.join(_STOCK)
        raise ValueError(f'predictions of {known} can be drawn, the model gives {type(sample).__name__} of {package}.')
    if package == 'mmdet3d' and not camera:
        package = 'mmdet'
    # Built without the registry, which would make it the current instance that hooks of the packages draw with.
    visualizer = VISUALIZERS.get(f'{package}.{_STOCK[package]}')(name='predictions')
    meta = dict(meta or {})
    if class_map(sample) is not None:
        meta['classes'] = meta.get('classes') or [f'class {i}' for i in range(_UNNAMED)]
        meta['palette'] = _palette(meta.get('palette'), len(meta['classes']))
    visualizer.dataset_meta = meta
    return visualizer


def class_colours(
    maps: Sequence[np.ndarray], meta: Mapping[str, Any], at_most: int = 20
) -> dict[str, tuple[int, int, int]]:
    """Names and colours of the classes in some maps of classes, those with most pixels first."""
    classes, palette = meta.get('classes') or (), meta.get('palette') or ()
    if not maps or isinstance(palette, str):
        return {}
    known = min(len(classes), len(palette))
    pixels = np.concatenate([values[(values >= 0) & (values < known)].ravel() for values in maps])
    counts = np.bincount(pixels.astype(np.int64), minlength=known)
    order = [int(label) for label in np.argsort(-counts, kind='stable') if counts[label]]
    return {str(classes[label]): tuple(int(part) for part in palette[label]) for label in order[:at_most]}


def _with_tuples(meta: Mapping[str, Any] | None) -> dict[str, Any]:
    """Colours as mmdet wants them; configs have them as lists."""
    meta = dict(meta or {})
    if isinstance(palette := meta.get('palette'), list):
        meta['palette'] = [tuple(int(part) for part in colour) for colour in palette]
    return meta


def _palette(palette: Any, count: int) -> list[list[int]]:
    """A colour a class."""
    if palette is not None and not isinstance(palette, str) and len(palette) >= count:
        return [list(map(int, colour)) for colour in palette]
    ring = colormaps['tab20']
    return [[round(255 * part) for part in ring(label % ring.N)[:3]] for label in range(count)]


@contextmanager
def _fixed_numpy_random_state() -> Iterator[None]:
    """mmdet varies colours by it: equal predictions should look alike, and a training goes on with its own."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)
