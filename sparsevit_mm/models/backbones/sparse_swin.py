from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from ...registry import MODELS
from ...selectors import build_window_selector
from ...sparsity import SparsityLayout
from ..layers import SwinStage, WindowBlock
from .swin_body import SwinBody

__all__ = ['SparseSwin']

BYPASSES = ('identity',)


@MODELS.register_module()
class SparseSwin(SwinBody):
    """Swin Transformer that computes the windows that matter (SparseViT, CVPR 2023, arXiv 2303.17605).

    Takes every argument of the ``SwinTransformer`` of mmdet and mmseg and has their state-dict keys. At sparsity 0 it
    is that backbone. A site is a pair of blocks (plain, shifted); the last block of an odd stage is a site of its own.

    Args:
        sparsity: Fraction of the windows that a site does not compute, for all sites or one value each.
        selector: Config of the selector that scores the windows.
        bypass: What happens to tokens of pruned windows; ``'identity'`` passes them unchanged.
        **swin: Arguments of :class:`SwinBody`, which are those of the stock backbones.

    Raises:
        ValueError: If arguments contradict each other or the sparsity is not valid.
    """

    def __init__(
        self,
        *,
        sparsity: float | Sequence[float] = 0.0,
        selector: dict = dict(type='sparsevit_mm.MagnitudeSelector'),
        bypass: str = 'identity',
        **swin: Any,
    ) -> None:
        if bypass not in BYPASSES:
            raise ValueError(f'bypass of SparseSwin must be one of {BYPASSES}, got {bypass!r}.')
        super().__init__(partial(_window_stage, selector=selector), **swin)
        self.bypass = bypass
        self.sparsity_layout = _sites_of(self.depths)
        self.block_sites = tuple(
            tuple(span.start + block // 2 for block in range(depth))
            for span, depth in zip(self.sparsity_layout.spans, self.depths)
        )
        self.sparsity = sparsity


def _window_stage(
    stage: int, blocks: Sequence[dict[str, Any]], merging: nn.Module | None, *, selector: dict
) -> SwinStage:
    window_size, dims, num_heads = (blocks[0][name] for name in ('window_size', 'embed_dims', 'num_heads'))
    built = [WindowBlock(**arguments) for arguments in blocks]
    return SwinStage(built, window_size, build_window_selector(selector, dims, num_heads), merging)


def _sites_of(depths: Sequence[int]) -> SparsityLayout:
    groups = tuple(-(-depth // 2) for depth in depths)
    sites = tuple(f'stage{i}.pair{j}' for i, pairs in enumerate(groups, 1) for j in range(1, pairs + 1))
    return SparsityLayout(sites, groups)
