"""What of a model goes into a file: a function of images whose result is a tuple of tensors."""

import json
from collections.abc import Sequence

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..models import SiteRecord, find_sparse_backbone
from .onnx_export import map_names

__all__ = ['PARTS', 'ModelPart', 'describe', 'part_of']

PARTS = ('backbone', 'features', 'logits')


class ModelPart(nn.Module):
    """A part of a model, ready to be traced.

    Args:
        model: A detector, a segmentor or a backbone, in evaluation mode.
        kind: ``'backbone'`` gives its maps, ``'features'`` those of the neck behind it, ``'logits'`` the class scores
            ``[B, classes, H, W]`` of a segmentor at the size of the images.
        selections: Whether what each block of a site keeps ``[B, K]`` comes behind these.

    Raises:
        ValueError: If the model has no such part, or how much it computes depends on the image.
    """

    def __init__(self, model: nn.Module, kind: str = 'backbone', selections: bool = False) -> None:
        super().__init__()
        if kind not in PARTS:
            raise ValueError(f'part must be one of {", ".join(PARTS)}, got {kind!r}.')
        self.kind, self.selections = kind, selections
        self.backbone = backbone = find_sparse_backbone(model)
        if backbone.counts == 'adaptive':
            raise ValueError(
                f"{type(backbone).__name__} has counts='adaptive': how much it computes depends on the image, and an "
                f"exported graph has fixed counts. Set model.backbone.counts='fixed' (--cfg-options "
                f'model.backbone.counts=fixed) and the sparsity to what its selectors keep on average.'
            )
        self.neck = getattr(model, 'neck', None) if kind == 'features' else None
        self.model = model if kind == 'logits' else None
        if kind == 'logits' and not hasattr(model, 'encode_decode'):
            raise ValueError(
                f"{type(model).__name__} is no segmentor, so it has no logits: export its 'features', backbone and "
                f"neck, or its 'backbone'."
            )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """``[B, 3, H, W]`` normalised images to the tensors that :meth:`output_names` names."""
        if not self.selections:
            return self._outputs(images)
        with self.backbone.record_selections() as records:
            outputs = self._outputs(images)
        return (*outputs, *(record.kept for record in _pruning(records)))

    def output_names(self, images: Tensor) -> list[str]:
        """Names of the tensors, in their order; runs once."""
        with torch.no_grad(), self.backbone.record_selections() as records:
            outputs = self._outputs(images)
        names = ['logits'] if self.kind == 'logits' else map_names(outputs)
        if self.selections:
            names += [f'kept.{record.site}.block{record.block}' for record in _pruning(records)]
        return names

    def _outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.model is not None:
            size = torch.Size(images.shape[2:])
            meta = dict(img_shape=size, pad_shape=size, ori_shape=size)
            return (self.model.encode_decode(images, [meta] * len(images)),)
        maps = self.backbone(images)
        return tuple(maps if self.neck is None else self.neck(maps))


def _pruning(records: Sequence[SiteRecord]) -> list[SiteRecord]:
    """Records of blocks that leave something out."""
    return [record for record in records if record.kept.shape[1] < record.num_units]


def part_of(model: nn.Module) -> str:
    """What of a model is exported where nothing else is said."""
    if hasattr(model, 'encode_decode'):
        return 'logits'
    return 'features' if getattr(model, 'neck', None) is not None else 'backbone'


def describe(model: nn.Module, cfg: Config, config: str) -> dict[str, str]:
    """What whoever runs a file has to know, as text: how images are normalised, what is left out, the classes.

    Args:
        model: As for :class:`ModelPart`.
        cfg: Its config.
        config: Name of the config.
    """
    backbone = find_sparse_backbone(model)
    preprocessor = cfg.model.get('data_preprocessor') or {}
    notes = dict(
        config=config,
        backbone=type(backbone).__name__,
        sites=list(backbone.sites),
        sparsity=list(backbone.sparsity),
        mean=preprocessor.get('mean'),
        std=preprocessor.get('std'),
        channels='RGB' if preprocessor.get('bgr_to_rgb') else 'BGR',
        classes=list((getattr(model, 'dataset_meta', None) or {}).get('classes') or ()),
    )
    return {f'sparsevit_mm.{key}': json.dumps(value) for key, value in notes.items()}
