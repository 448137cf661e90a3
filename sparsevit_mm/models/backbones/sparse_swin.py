from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from ...registry import MODELS
from ...selectors import build_window_selector
from ...sparsity import SparsityLayout
from ..layers import SwinStage, WindowBlock
from .arguments import check_options
from .swin_body import SwinBody

__all__ = ['SparseSwin']

BYPASSES = ('identity', 'package')


@MODELS.register_module()
class SparseSwin(SwinBody):
    """Swin Transformer that computes the windows that matter (SparseViT, CVPR 2023, arXiv 2303.17605).

    Takes every argument of the ``SwinTransformer`` of mmdet and mmseg and has their state-dict keys. At sparsity 0 it
    is that backbone. A site is a pair of blocks (plain, shifted); the last block of an odd stage is a site of its own.

    Args:
        sparsity: Fraction of the windows that a site does not compute, for all sites or one value each.
        selector: Config of the selector that scores the windows.
        bypass: What happens to tokens of pruned windows: ``'identity'`` passes them unchanged, ``'package'`` folds
            those that no block of a site computes into a package token, which the windows computed see beside their own
            tokens and which sees all that is computed of its image (SPViT, arXiv 2112.13890). Packages stand outside of
            the map and end with their stage.
        package: ``'separate'`` makes a package token a site, ``'merged'`` one a stage.
        unfold: What becomes of tokens in a package at the end of the stage: with ``'residual'`` they get what the
            package has learned, with ``'reuse'`` they stay as they are.
        counts: With ``'fixed'`` as many windows of every image stay as the sparsity asks for, with ``'adaptive'`` those
            whose scores are above a cut, as in :class:`PrunedViT`. With one ranking a stage its sites then have one
            sparsity, but for those at 0.
        ranking: With ``'stage'`` windows are scored and ranked once a stage, before the first site that prunes, as in
            SparseViT; with ``'site'`` again before each site, so that a window that was passed over can come back.
            Packages need ``'stage'``.
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
        package: str = 'separate',
        unfold: str = 'residual',
        counts: str = 'fixed',
        ranking: str = 'stage',
        **swin: Any,
    ) -> None:
        options = dict(package=package, unfold=unfold, counts=counts, ranking=ranking)
        check_options('SparseSwin', BYPASSES, bypass, **options)
        if bypass == 'package' and ranking == 'site':
            raise ValueError(
                "ranking='site' lets windows come back, but with bypass='package' their tokens have been folded away: "
                "set ranking='stage' or bypass='identity'."
            )
        packing = package if bypass == 'package' else None
        adaptive = counts == 'adaptive'
        stage = dict(package=packing, unfold=unfold, adaptive=adaptive, ranking=ranking)
        super().__init__(partial(_window_stage, selector=selector, options=stage), **swin)
        self.bypass, self.counts, self.ranking = bypass, counts, ranking
        self.sparsity_layout = _sites_of(self.depths)
        self.block_sites = tuple(
            tuple(span.start + block // 2 for block in range(depth))
            for span, depth in zip(self.sparsity_layout.spans, self.depths)
        )
        self.sparsity = sparsity

    def check_sparsity(self, values: tuple[float, ...]) -> None:
        """Looks whether all sites of a stage can be at these values."""
        if self.counts != 'adaptive' or self.ranking == 'site':
            return
        for span in self.sparsity_layout.spans:
            if len(set(values[span]) - {0.0}) > 1:
                raise ValueError(
                    f"sparsity of {', '.join(self.sites[span])} is {values[span]}, but with counts='adaptive' one "
                    f'score decides for all of a stage: give them one value, or 0 to the first ones, or set '
                    f"ranking='site'."
                )


def _window_stage(
    stage: int,
    blocks: Sequence[dict[str, Any]],
    merging: nn.Module | None,
    *,
    selector: dict,
    options: dict[str, Any],
) -> SwinStage:
    window_size, dims, num_heads = (blocks[0][name] for name in ('window_size', 'embed_dims', 'num_heads'))
    built = [WindowBlock(**arguments) for arguments in blocks]
    own = build_window_selector(selector, dims, num_heads, options['adaptive'])
    return SwinStage(built, window_size, own, merging, **options)


def _sites_of(depths: Sequence[int]) -> SparsityLayout:
    groups = tuple(-(-depth // 2) for depth in depths)
    sites = tuple(f'stage{i}.pair{j}' for i, pairs in enumerate(groups, 1) for j in range(1, pairs + 1))
    return SparsityLayout(sites, groups)
