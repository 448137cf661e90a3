import torch
from torch import Tensor

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
        def build() -> Tensor:
            generator = torch.Generator().manual_seed(self.seed)
            return torch.randperm(count, generator=generator).float().to(device)

        return self._permutations.get((count, str(device)), build)
