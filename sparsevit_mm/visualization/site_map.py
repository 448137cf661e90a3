"""From what a forward pass recorded to how often each pixel was computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from ..models import SiteRecord

__all__ = ['SiteMap', 'join_crops', 'kept_share', 'site_maps']


@dataclass(frozen=True)
class SiteMap:
    """What the blocks of one site computed, on the pixels of one image.

    Args:
        site: Name of the site.
        blocks: Number of blocks in the site.
        counts: How many of them computed each pixel, int array of shape (h, w).
        unit: What the site chooses from, in the plural: windows or tokens.
        units: Number of units that each block chooses from.
        kept: Number of units of this image that each block computed.
        sparsity: The sparsity set for the site, None if it is not known.
        packed: Which pixels are in a package token, bool array of shape (h, w); None where there is none.
    """

    site: str
    blocks: int
    counts: np.ndarray
    unit: str
    units: int
    kept: int
    sparsity: float | None = None
    packed: np.ndarray | None = None

    @property
    def title(self) -> str:
        """The site and its numbers in one line."""
        sparsity = '' if self.sparsity is None else f'sparsity {self.sparsity:.2g}, '
        packed = '' if self.packed is None else f', {self.packed.mean():.0%} packed'
        return f'{self.site}: {sparsity}{self.kept} of {self.units} {self.unit}{packed}'


def site_maps(
    records: Sequence[SiteRecord],
    size: tuple[int, int],
    *,
    input_size: tuple[int, int] | None = None,
    index: int = 0,
    sparsity: Mapping[str, float] | None = None,
) -> list[SiteMap]:
    """One map a site, in the order of the forward pass.

    Args:
        records: What ``backbone.record_selections()`` gave for one forward pass.
        size: Height and width in pixels of the picture: the top left part of the network's input.
        input_size: Height and width of the input with its padding; the picture's size if it has none.
        index: Which image of the batch.
        sparsity: Site names to the sparsity set, for the titles.

    Raises:
        ValueError: If nothing was recorded, or the index is not in the batch.
    """
    if not records:
        raise ValueError('records is empty: run the model inside `with backbone.record_selections() as records:`.')
    batch = len(records[0].kept)
    if not 0 <= index < batch:
        raise ValueError(f'index must be in [0, {batch}), the images of the recorded batch, got {index}.')
    by_site: dict[str, list[SiteRecord]] = {}
    for record in records:
        by_site.setdefault(record.site, []).append(record)
    return [
        SiteMap(
            site=site,
            blocks=len(blocks),
            counts=sum(_to_pixels(block.token_mask()[index], size, input_size or size) for block in blocks),
            unit='windows' if blocks[0].window > 1 else 'tokens',
            units=blocks[0].num_units,
            kept=int(blocks[0].counts[index]),
            sparsity=None if sparsity is None else sparsity.get(site),
            packed=_packed(blocks, size, input_size or size, index),
        )
        for site, blocks in by_site.items()
    ]


def kept_share(maps: Sequence[SiteMap]) -> float:
    """The fraction of an image that a block computed, as a mean over the blocks of all sites."""
    return float(sum(site_map.counts.mean() for site_map in maps) / sum(site_map.blocks for site_map in maps))


def join_crops(
    crops: Sequence[Sequence[SiteMap]], corners: Sequence[tuple[int, int]], size: tuple[int, int]
) -> list[SiteMap]:
    """The maps of an image that went through the network in overlapping crops.

    Where crops overlap a pixel has the count of the crop that computed it most often. Units are counted as often as
    they were there, and so once in each crop.

    Args:
        crops: The maps of each crop, all of the same sites.
        corners: Top and left pixel of each crop.
        size: Height and width in pixels of the picture; what crops have beyond it is cut off.
    """
    return [_join(of_site, corners, size) for of_site in zip(*crops)]


def _join(crops: Sequence[SiteMap], corners: Sequence[tuple[int, int]], size: tuple[int, int]) -> SiteMap:
    counts = np.zeros(size, dtype=np.int64)
    packed = None if crops[0].packed is None else np.ones(size, dtype=bool)
    for crop, (top, left) in zip(crops, corners):
        place = np.s_[top : top + crop.counts.shape[0], left : left + crop.counts.shape[1]]
        inside = np.s_[: counts[place].shape[0], : counts[place].shape[1]]
        np.maximum(counts[place], crop.counts[inside], out=counts[place])
        if packed is not None:
            packed[place] &= crop.packed[inside]
    return replace(
        crops[0],
        counts=counts,
        units=sum(crop.units for crop in crops),
        kept=sum(crop.kept for crop in crops),
        packed=packed,
    )


def _packed(
    blocks: Sequence[SiteRecord], size: tuple[int, int], input_size: tuple[int, int], index: int
) -> np.ndarray | None:
    packed = blocks[-1].packed
    return None if packed is None else _to_pixels(packed[index], size, input_size) > 0


def _to_pixels(mask: Tensor, size: tuple[int, int], input_size: tuple[int, int]) -> np.ndarray:
    """1 where a mask ``[H, W]`` of tokens is true, on the picture's pixels."""
    mask = mask.cpu().numpy()
    rows, cols = (
        np.minimum(np.arange(pixels) // _stride(whole, tokens), tokens - 1).astype(np.int64)
        for pixels, whole, tokens in zip(size, input_size, mask.shape)
    )
    return mask[rows[:, None], cols].astype(np.int64)


def _stride(pixels: int, tokens: int) -> float:
    """Pixels a token. The last token may reach over the edge, so the quotient alone is not exact.

    Hierarchical backbones have powers of two: the first that needs no more than this number of tokens is
    taken if it needs no less. Any other patch size divides the input.
    """
    power = 1
    while power * tokens < pixels:
        power *= 2
    return power if -(-pixels // power) == tokens else pixels / tokens
