from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from ...registry import MODELS
from ..layers import PathSelectors, TwoPathSwinStage, TwoPathWindowBlock, WindowBlock
from .site_blocks import block_sites_of, layout_of, resolve_site_blocks
from .swin_body import SwinBody

__all__ = ['DynamicSwin']


@MODELS.register_module()
class DynamicSwin(SwinBody):
    """Swin Transformer with fast and slow paths (dynamic spatial sparsification, arXiv 2207.01580).

    From a site on each token either goes through the FFN (slow path) or through one linear layer (fast path);
    attention sees all of them, so the map keeps its structure. Each site decides for all tokens anew. At sparsity 0
    it is the stock backbone, whose state-dict keys it has beside those of selectors and fast paths.

    Sites are named ``stage3.block1`` and so on: the stage counted from 1, and the block as in ``site_blocks``.

    Args:
        depths: Blocks of each stage.
        site_blocks: Blocks of stage ``site_stage``, counted from 0, that have a site before them, or a mapping of
            stages to such blocks; ``None`` for the published ones.
        site_stage: Stage that ``site_blocks`` is about, counted from 0.
        sparsity: Fraction of the tokens on the fast path, for all sites or one value each. The published models keep
            :math:`\\rho`, :math:`\\rho - 0.2` and :math:`\\rho - 0.4` on the slow one: (.3, .5, .7) is their
            :math:`\\rho = 0.7`.
        selector: Config of the selectors, of which each site has one.
        **swin: The other arguments of :class:`SwinBody`, which are those of the stock backbones.

    Attributes:
        site_blocks: For each stage its blocks with a site before them.

    Raises:
        ValueError: If arguments contradict each other or sites or sparsity are not valid.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int] = (2, 2, 6, 2),
        site_blocks: Sequence[int] | Mapping[int, Sequence[int]] | None = None,
        site_stage: int = 2,
        sparsity: float | Sequence[float] = 0.0,
        selector: dict = dict(type='sparsevit_mm.PredictorSelector'),
        **swin: Any,
    ) -> None:
        sites = resolve_site_blocks(depths, site_blocks, site_stage)
        super().__init__(partial(_two_path_stage, sites=sites, selector=selector), depths=depths, **swin)
        self.site_blocks = sites
        self.sparsity_layout = layout_of(sites)
        self.block_sites = block_sites_of(sites, self.depths)
        self.sparsity = sparsity


def _two_path_stage(
    stage: int,
    blocks: Sequence[dict[str, Any]],
    merging: nn.Module | None,
    *,
    sites: Sequence[Sequence[int]],
    selector: dict,
) -> TwoPathSwinStage:
    window_size, dims, num_heads = (blocks[0][name] for name in ('window_size', 'embed_dims', 'num_heads'))
    first = sites[stage][0] if sites[stage] else len(blocks)
    built = [WindowBlock(**arguments) for arguments in blocks[:first]]
    built += [TwoPathWindowBlock(**arguments) for arguments in blocks[first:]]
    selectors = PathSelectors(selector, dims, sites[stage], num_heads)
    return TwoPathSwinStage(built, window_size, selectors, merging)
