from collections.abc import Callable

import torch
from torch import Tensor

from ..compat import has_custom_operators
from ..ops import IndexCache, WindowGrid
from ..registry import MODELS
from .base import Selector

__all__ = ['RandomSelector']


@MODELS.register_module()
class RandomSelector(Selector):
    """The control: units are ranked by chance, so what a real selector is worth shows against it.

    One permutation a number of units and seed, the same for every image and every forward.

    Args:
        seed: Chooses the permutation.
    """

    def __init__(self, embed_dims: int | None = None, seed: int = 0, init_cfg: dict | None = None) -> None:
        super().__init__(embed_dims, init_cfg)
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f'seed of RandomSelector must be an int, got {seed!r}.')
        self.seed = seed
        self._permutations = IndexCache()

    def forward(self, tokens: Tensor, alive: Tensor | None = None, class_attention: Tensor | None = None) -> Tensor:
        """Distinct random scores, ``[B, L, C] -> [B, L]``, alike for every image; see :meth:`Selector.forward`."""
        return self._scores(tokens.shape[1], tokens.device).expand(tokens.shape[0], -1)

    def window_scores(self, scores: Tensor, grid: WindowGrid) -> Tensor:
        """Distinct random scores ``[B, nW]``, alike for every image; those of the tokens are not used."""
        return self._scores(grid.num_windows, scores.device).expand(scores.shape[0], -1)

    def _scores(self, count: int, device: torch.device) -> Tensor:
        if _traced_permutation is not None and torch.compiler.is_dynamo_compiling():
            return _traced_permutation(self.seed, count, device)
        return self._permutations.get((count, str(device)), lambda: _permutation(self.seed, count, device))


def _permutation(seed: int, count: int, device: torch.device) -> Tensor:
    """The numbers below ``count`` in an order that the seed chooses, ``[count]`` in float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=generator).float().to(device)


def _register_traced_permutation() -> Callable[[int, int, torch.device], Tensor] | None:
    """The same as an operator, if torch has such: ``torch.compile`` takes no generator into a graph."""
    if not has_custom_operators():
        return None
    permutations = IndexCache()

    @torch.library.custom_op('sparsevit_mm::permutation', mutates_args=())
    def permutation(seed: int, count: int, device: torch.device) -> Tensor:
        key = (seed, count, str(device))
        # A copy: compilers may write into what an operator returns.
        return permutations.get(key, lambda: _permutation(seed, count, device)).clone()

    @permutation.register_fake
    def _(seed: int, count: int, device: torch.device) -> Tensor:
        return torch.empty(count, device=device, dtype=torch.float32)

    return permutation


_traced_permutation = _register_traced_permutation()
