"""All that there is to see of one image: what is computed of it, what is predicted, and what that saves."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import nn

from ..cost import count_macs
from ..cost.counter import count_executed_macs
from ..models import SparseBackbone, find_sparse_backbone
from .differences import MapChange, ObjectChange, compare_predictions
from .inputs import ImageReader, NetworkInput
from .predictions import PredictionPainter, stock_visualizer
from .recording import InferenceRecord, record_inference
from .samples import class_map, in_image, objects_of
from .site_map import SiteMap, kept_share

__all__ = ['Inspection', 'Inspector', 'macs_share']


@dataclass(frozen=True)
class Inspection:
    """One image, seen by a sparse model.

    Args:
        item: The image.
        maps: What was computed of it.
        canvas: The image in the pixels that predictions speak of, uint8 RGB: as in its file, and for 3D detectors as
            the network sees it, as their camera does.
        prediction: What the sparse model says, as an RGB picture.
        macs_share: MACs of the backbone relative to dense.
        classes: Maps of classes in the predictions, for the legend; none of detectors.
        dense_prediction: What the same weights say at sparsity 0, as an RGB picture, if that was asked for.
        change: What changes between the two.
    """

    item: NetworkInput
    maps: tuple[SiteMap, ...]
    canvas: np.ndarray
    prediction: np.ndarray
    macs_share: float
    classes: tuple[np.ndarray, ...] = ()
    dense_prediction: np.ndarray | None = None
    change: MapChange | ObjectChange | None = None

    @property
    def kept_share(self) -> float:
        """The fraction of the image that a block computed, as a mean over the blocks of all sites."""
        return kept_share(self.maps)


class Inspector:
    """Runs a sparse model on images and says what it skipped.

    Args:
        model: A detector, segmentor or mono-3D model in evaluation mode, with a sparse backbone.
        read: Reads images for it.
        score_thr: Objects with no higher score are left out.
        iou_thr: Least overlap of two objects that are taken for one.
        longest: Longer side in pixels of the pictures of predictions.

    Raises:
        ValueError: If the model has no sparse backbone.
    """

    def __init__(
        self, model: nn.Module, read: ImageReader, score_thr: float = 0.3, iou_thr: float = 0.5, longest: int = 480
    ) -> None:
        self.model, self.read = model, read
        self.backbone = find_sparse_backbone(model)
        self.score_thr, self.iou_thr = score_thr, iou_thr
        self._longest = longest
        self.painter: PredictionPainter | None = None

    @torch.no_grad()
    def __call__(self, path: str | Path, compare: bool = False) -> Inspection:
        """Look at one image.

        Args:
            path: The image file.
            compare: Whether to predict at sparsity 0 too.

        Raises:
            UnreadableImage: If the file is missing or no image.
            ValueError: If the predictions of the model cannot be drawn or compared.
        """
        item = self.read(path)
        sample, record = self._predict(item)
        canvas = item.picture if 'pred_instances_3d' in sample else item.original
        found, extras = [sample], {}
        if compare:
            with_all, _ = self._predict(item, dense=True)
            found.append(with_all)
            extras = dict(
                dense_prediction=self._paint(canvas, with_all),
                change=self._compare(with_all, sample, canvas),
            )
        classes = [class_map(one) for one in found]
        return Inspection(
            item=item,
            maps=tuple(record.maps(item.picture.shape[:2])),
            canvas=canvas,
            prediction=self._paint(canvas, sample),
            macs_share=self._macs_share(item, record),
            classes=tuple(one for one in classes if one is not None),
            **extras,
        )

    def describe(self) -> str:
        """The backbone and its sparsity in a line."""
        name = type(self.backbone).__name__
        if self.backbone.counts == 'adaptive':
            return f'{name}: images have counts of their own'
        sites = ', '.join(f'{site} {value:.2g}' for site, value in zip(self.backbone.sites, self.backbone.sparsity))
        return f'{name} at sparsity {sites}'

    def _predict(self, item: NetworkInput, dense: bool = False) -> tuple[BaseDataElement, InferenceRecord]:
        own = self.backbone.sparsity
        try:
            if dense:
                self.backbone.sparsity = 0.0
            with record_inference(self.model) as record:
                (sample,) = self.model.test_step(item.batch())
        finally:
            self.backbone.sparsity = own
        return sample, record

    def _paint(self, canvas: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        if self.painter is None:
            visualizer = stock_visualizer(sample, getattr(self.model, 'dataset_meta', None), camera=False)
            self.painter = PredictionPainter(visualizer, self.score_thr, self._longest)
        objects = objects_of(sample, self.score_thr)
        if objects is not None and objects.boxes is None:
            return self.painter.paint_centers(canvas, sample)
        return self.painter.paint(canvas, in_image(sample))

    def _compare(self, before: BaseDataElement, after: BaseDataElement, canvas: np.ndarray) -> MapChange | ObjectChange:
        change = compare_predictions(before, after, canvas.shape[:2], self.score_thr, self.iou_thr)
        if change is None:
            raise ValueError(
                f'the predictions of {type(self.model).__name__} are neither maps of classes nor objects, so that '
                f'those at two sparsities cannot be compared.'
            )
        return change

    def _macs_share(self, item: NetworkInput, record: InferenceRecord) -> float:
        # Crops are all of one size, so that the share of one is that of all.
        shape = record.pass_size
        return macs_share(self.backbone, shape, item.tensor[..., : shape[0], : shape[1]])


def macs_share(backbone: SparseBackbone, shape: tuple[int, int], images: torch.Tensor | None = None) -> float | None:
    """MACs of a backbone at its present sparsity relative to dense.

    Args:
        backbone: A sparse backbone.
        shape: Height and width of its input.
        images: Its input of one image, which runs once more where images have counts of their own; without it the
            share then is not known.
    """
    own = backbone.sparsity
    if backbone.counts == 'fixed':
        macs = count_macs(backbone, shape)
    elif images is None:
        return None
    else:
        macs = count_executed_macs(lambda: backbone(images))
    try:
        backbone.sparsity = 0.0
        return macs / count_macs(backbone, shape)
    finally:
        backbone.sparsity = own
