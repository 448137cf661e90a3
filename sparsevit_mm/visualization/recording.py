"""What the backbone of a whole model computes, while the model predicts."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ..models import SiteRecord, SparseBackbone, find_sparse_backbone
from .site_map import SiteMap, join_crops, site_maps

__all__ = ['InferenceRecord', 'record_inference']


@dataclass
class InferenceRecord:
    """What was seen of one batch.

    Args:
        backbone: The sparse backbone.
        test_cfg: How the model around it tests, for sliding crops.
        records: What its blocks computed, of all passes one after the other.
        sizes: Height and width of the network's input with its padding, one for each call of the model: test-time
            augmentation calls it several times.
    """

    backbone: SparseBackbone
    test_cfg: Mapping[str, Any] = field(default_factory=dict)
    records: list[SiteRecord] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)

    def maps(self, size: tuple[int, int], index: int = 0) -> list[SiteMap]:
        """One map a site; of an image in sliding crops those of all crops together.

        Args:
            size: Height and width in pixels of the picture: the top left part of the network's input.
            index: Which image of the batch.

        Raises:
            ValueError: If nothing was recorded, or what was recorded has no place in one picture.
        """
        passes = _passes(self.records)
        if not passes:
            raise ValueError(
                'the backbone recorded nothing: a replayed CUDA graph or an exported model runs none of its Python code'
            )
        sparsity = dict(zip(self.backbone.sites, self.backbone.sparsity))
        if len(self.sizes) == len(passes) == 1:
            return site_maps(passes[0], size, input_size=self.sizes[0], index=index, sparsity=sparsity)
        crops = self._crops() if len(self.sizes) == 1 else []
        if len(crops) != len(passes):
            raise ValueError(
                f'the model ran {len(self.sizes)} and its backbone {len(passes)} times for one batch: what was '
                f'computed is not drawn with test-time augmentation'
            )
        maps = [site_maps(records, crop, index=index, sparsity=sparsity) for records, (_, crop) in zip(passes, crops)]
        return join_crops(maps, [corner for corner, _ in crops], size)

    @property
    def pass_size(self) -> tuple[int, int]:
        """Height and width of what the backbone gets in one pass: the input, or a sliding crop of it."""
        crops = self._crops()
        return crops[0][1] if crops else self.sizes[0]

    def _crops(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Corner and size of the crops that mmseg's sliding inference makes, in its order; none without it."""
        if self.test_cfg.get('mode') != 'slide':
            return []
        rows, columns = (
            _places(whole, crop, stride)
            for whole, crop, stride in zip(self.sizes[0], self.test_cfg['crop_size'], self.test_cfg['stride'])
        )
        return [((top, left), (height, width)) for top, height in rows for left, width in columns]


@contextmanager
def record_inference(model: nn.Module) -> Iterator[InferenceRecord]:
    """Collects, while it is open, what the backbone of a model computes.

    Args:
        model: A detector, segmentor or mono-3D model with a sparse backbone, wrapped or not.

    Raises:
        ValueError: If there is no sparse backbone in it.
    """
    backbone = find_sparse_backbone(model)
    owner = next((module for module in model.modules() if backbone in module.children()), model)
    record = InferenceRecord(backbone, getattr(owner, 'test_cfg', None) or {})

    def note_size(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        inputs = kwargs.get('inputs', args[0] if args else None)
        images = inputs.get('imgs') if isinstance(inputs, Mapping) else inputs
        if isinstance(images, Tensor):
            record.sizes.append(tuple(images.shape[-2:]))

    handle = owner.register_forward_pre_hook(note_size, with_kwargs=True)
    try:
        with backbone.record_selections() as record.records:
            yield record
    finally:
        handle.remove()


def _passes(records: list[SiteRecord]) -> list[list[SiteRecord]]:
    """Records of one forward pass of the backbone each: a new one begins where a block comes again."""
    passes: list[list[SiteRecord]] = []
    seen: set[tuple[str, int]] = set()
    for record in records:
        if not passes or (record.site, record.block) in seen:
            passes.append([])
            seen = set()
        seen.add((record.site, record.block))
        passes[-1].append(record)
    return passes


def _places(whole: int, crop: int, stride: int) -> list[tuple[int, int]]:
    """First pixel and length of the crops along one side."""
    steps = max(whole - crop + stride - 1, 0) // stride + 1
    ends = [min(step * stride + crop, whole) for step in range(steps)]
    return [(max(end - crop, 0), end - max(end - crop, 0)) for end in ends]
