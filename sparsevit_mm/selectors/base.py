"""What all selectors have in common."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from ..ops import WindowGrid
from ..registry import MODELS

__all__ = ['Selector', 'build_selector']


class Selector(BaseModule):
    """Scores the units of a backbone; the highest scores stay.

    A selector scores tokens (:meth:`forward`) and says how the scores of a window's tokens make the score of the
    window (:meth:`window_scores`). How many units stay is not its business. Scores of an image depend on that image
    alone, and are computed in float32 under autocast too.

    Args:
        embed_dims: Channels of the features, for selectors that learn. Backbones always pass it.
    """

    def __init__(self, embed_dims: int | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.embed_dims = embed_dims

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of tokens, ``[B, L, C] -> [B, L]`` in float32, before any block of the site has run."""
        raise NotImplementedError

    def window_scores(self, scores: Tensor, grid: WindowGrid) -> Tensor:
        """Scores of windows from the scores of their tokens: the L2 norm, padding counting as 0.

        Args:
            scores: ``[B, L]`` scores of the tokens.
            grid: The windows, plain or shifted.

        Returns:
            ``[B, nW]``.
        """
        if grid.padded:
            scores = torch.nn.functional.pad(scores, (0, 1))
        return torch.linalg.vector_norm(scores[:, grid.rows], dim=-1)


def build_selector(config: Mapping[str, Any], embed_dims: int) -> Selector:
    """A selector from its config.

    Args:
        config: ``type``, and the arguments of the selector.
        embed_dims: Channels of the features that it will score.

    Raises:
        ValueError: If the config is none, or the selector is unknown or refuses its arguments.
    """
    if not isinstance(config, Mapping) or 'type' not in config:
        raise ValueError(
            f"selector must be a config such as dict(type='sparsevit_mm.MagnitudeSelector'), got {config!r}."
        )
    known = sorted(
        name for name, cls in MODELS.module_dict.items() if isinstance(cls, type) and issubclass(cls, Selector)
    )
    try:
        selector = MODELS.build({'embed_dims': embed_dims, **config})
    except (KeyError, TypeError) as error:
        raise ValueError(f'selector {dict(config)} cannot be built: {error}. Known: {", ".join(known)}.') from error
    if not isinstance(selector, Selector):
        raise ValueError(
            f'selector {dict(config)} is a {type(selector).__name__} and no selector. Known: {", ".join(known)}.'
        )
    return selector
