"""One sheet for what a model made of an image of a data set: labels, prediction, and what was computed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from mmengine.fileio import get
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from torch import Tensor

from .draw import draw_overview
from .inputs import decode_image, network_picture
from .inspection import macs_share
from .predictions import PredictionPainter, class_colours, stock_visualizer
from .recording import InferenceRecord
from .samples import class_map, has_truth
from .site_map import SiteMap, kept_share

__all__ = ['ResultPainter']

_LONGEST = 640  # pixels of the longer side of predictions and labels


class ResultPainter:
    """Draws results of validation and test. What of a picture cannot be had is told and left out.

    Args:
        score_thr: Objects with no higher score are left out.
        warn: Told what is left out: what kind of thing it is, and a sentence.
        backend_args: How image files are read, as for mmengine's file backends.
    """

    def __init__(
        self, score_thr: float, warn: Callable[[str, str], None], backend_args: dict[str, Any] | None = None
    ) -> None:
        self.score_thr, self.warn, self.backend_args = score_thr, warn, backend_args

    def draw(
        self,
        name: str,
        inputs: Sequence | Mapping[str, Sequence],
        sample: BaseDataElement,
        index: int,
        record: InferenceRecord,
        visualizer: Visualizer,
    ) -> np.ndarray:
        """The sheet, uint8 RGB.

        Args:
            name: What the image is called.
            inputs: The images of the batch, as its loader gives them.
            sample: What the model says of the image, with its labels if the pipeline has loaded them.
            index: The place of the image in the batch.
            record: What was computed of the batch.
            visualizer: That of the run. Where it draws no predictions the stock one of the package does.

        Raises:
            ValueError: If there is no one image that could be drawn.
        """
        images = inputs['img'] if isinstance(inputs, Mapping) else inputs
        augmented = not isinstance(images[index if len(images) > index else 0], Tensor)  # several versions of each
        picture = None if augmented else network_picture(images[index])
        image = self._original(sample, picture)
        panels, classes = self._results(image, sample, visualizer)
        try:
            maps = record.maps((image if picture is None else picture).shape[:2], index)
        except ValueError as error:
            maps = []
            self.warn('selection', f'what was computed is not drawn: {error}.')
        title = _title(name, maps, record)
        return draw_overview(image if picture is None else picture, maps, title, panels, classes)

    def _results(
        self, image: np.ndarray, sample: BaseDataElement, visualizer: Visualizer
    ) -> tuple[dict[str, np.ndarray], dict[str, tuple[int, int, int]]]:
        """Labels and prediction as pictures by their titles, and the colours of the classes in them."""
        panels: dict[str, np.ndarray] = {}
        try:
            if type(visualizer).add_datasample is Visualizer.add_datasample:  # mmengine's own draws nothing
                visualizer = stock_visualizer(sample, visualizer.dataset_meta)
            painter = PredictionPainter(visualizer, self.score_thr, _LONGEST)
            kinds = {'labels': True, 'prediction': False} if has_truth(sample) else {'prediction': False}
            for title, truth in kinds.items():
                panels[title] = painter.paint(image, sample, truth)
            maps = [class_map(sample, truth) for truth in kinds.values()]
            return panels, class_colours([values for values in maps if values is not None], painter.meta)
        except Exception as error:  # visualizers, samples and their data sets are not ours
            self.warn('prediction', f'predictions are not drawn: {type(error).__name__}: {error}')
            return panels, {}

    def _original(self, sample: BaseDataElement, picture: np.ndarray | None) -> np.ndarray:
        """The image that the prediction speaks of: that of the file, or what the network saw in the same size."""
        meta = sample.metainfo
        if picture is not None and 'pred_instances_3d' in sample:  # its boxes belong there, as its camera does
            return picture
        size = tuple(meta.get('ori_shape') or picture.shape)[:2]
        image = self._read(meta.get('img_path'))
        if image is not None and (image.shape[:2] == size or picture is None):
            return image
        if picture is None:
            raise ValueError('with test-time augmentation an image is drawn from its file, and that is not there.')
        return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR)

    def _read(self, path: Any) -> np.ndarray | None:
        if not isinstance(path, str):
            return None
        try:
            image, reason = decode_image(get(path, backend_args=self.backend_args)), 'it is no image'
        except Exception as error:  # of whatever backend
            image, reason = None, error
        if image is None:
            self.warn('file', f'{path} cannot be read ({reason}): images are drawn as the network saw them.')
        return image


def _title(name: str, maps: Sequence[SiteMap], record: InferenceRecord) -> str:
    if not maps:
        return name
    try:
        share = macs_share(record.backbone, record.pass_size)
    except ValueError:  # a backbone of another package has no formula
        share = None
    macs = '' if share is None else f', {share:.0%} of the MACs'
    return f'{name}: {kept_share(maps):.0%} computed{macs}'
