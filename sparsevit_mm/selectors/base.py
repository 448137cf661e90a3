"""What all selectors have in common."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from ..ops import WindowGrid
from ..registry import MODELS

__all__ = ['Selector', 'build_selector', 'build_window_selector', 'check_counts']

# Ways to decide in training that let images differ in how much they keep.
FREE_DRAWS = ('gumbel', 'batch')


class Selector(BaseModule):
    """Scores the units of a backbone; the highest scores stay.

    A selector scores tokens (:meth:`forward`) and windows (:meth:`score_windows`). How many units stay is not its
    business. Scores of an image depend on that image alone, and are computed in float32 under autocast too.

    Args:
        embed_dims: Channels of the features, for selectors that learn. Backbones always pass it.
    """

    #: Whether scores are log-odds with a gradient, see :class:`LearnedSelector`.
    learns = False
    #: Whether :meth:`forward` wants the attention that the class token pays to each token.
    wants_class_attention = False
    #: Whether the constructor takes ``num_heads``, the attention heads of the block that follows.
    wants_num_heads = False

    def __init__(self, embed_dims: int | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.embed_dims = embed_dims

    def forward(self, tokens: Tensor, alive: Tensor | None = None, class_attention: Tensor | None = None) -> Tensor:
        """Scores of tokens before any block of the site has run.

        Args:
            tokens: ``[B, L, C]``.
            alive: ``[B, L]``, 1 for tokens that earlier sites kept; ``None`` where all of ``tokens`` are.
            class_attention: ``[B, L]``, for selectors that want it.

        Returns:
            ``[B, L]`` in float32.
        """
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

    def score_windows(self, tokens: Tensor, grids: Sequence[WindowGrid]) -> list[Tensor]:
        """Scores of the windows of each grid.

        Args:
            tokens: ``[B, L, C]``, scored once for all grids.
            grids: Windows of the same map at different shifts.

        Returns:
            ``[B, nW]`` for each grid.
        """
        scores = self(tokens)
        return [self.window_scores(scores, grid) for grid in grids]

    def count_macs(self, num_units: int) -> int:
        """Multiply-adds of scoring so many units of one image, matrix products only."""
        return 0


def build_selector(config: Mapping[str, Any], embed_dims: int, num_heads: int | None = None) -> Selector:
    """A selector from its config.

    Args:
        config: ``type``, and the arguments of the selector.
        embed_dims: Channels of the features that it will score.
        num_heads: Attention heads there, for selectors that want it.

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
        known_dims = dict(embed_dims=embed_dims)
        if num_heads is not None and getattr(MODELS.get(config['type']), 'wants_num_heads', False):
            known_dims['num_heads'] = num_heads
        selector = MODELS.build({**known_dims, **config})
    except (KeyError, TypeError) as error:
        raise ValueError(f'selector {dict(config)} cannot be built: {error}. Known: {", ".join(known)}.') from error
    if not isinstance(selector, Selector):
        raise ValueError(
            f'selector {dict(config)} is a {type(selector).__name__} and no selector. Known: {", ".join(known)}.'
        )
    return selector


def build_window_selector(
    config: Mapping[str, Any], embed_dims: int, num_heads: int | None = None, adaptive: bool = False
) -> Selector:
    """A selector for windows.

    Args:
        config: ``type``, and the arguments of the selector.
        embed_dims: Channels of the features that it will score.
        num_heads: Attention heads there, for selectors that want it.
        adaptive: Whether it also decides how many windows of an image stay.

    Raises:
        ValueError: As :func:`build_selector` and :func:`check_counts`, and for a selector that scores tokens only.
    """
    selector = build_selector(config, embed_dims, num_heads)
    name = type(selector).__name__
    if selector.wants_class_attention:
        raise ValueError(f'selector {name} ranks by a class token, and a backbone with windows has none.')
    check_counts(selector, adaptive)
    draw, learn_from = getattr(selector, 'draw', 'topk'), getattr(selector, 'learn_from', 'all')
    if not adaptive and draw != 'topk':
        raise ValueError(
            f"selector {name} has draw={draw!r}, but a fixed number of windows is computed: use draw='topk', or "
            f"counts='adaptive' of the backbone."
        )
    if adaptive and learn_from != 'all':
        raise ValueError(
            f"selector {name} has learn_from={learn_from!r}, but with counts='adaptive' all windows are computed in "
            f"training: use learn_from='all'."
        )
    return selector


def check_counts(selector: Selector, adaptive: bool) -> None:
    """Looks whether a selector can decide how many units of an image stay, where it has to.

    Raises:
        ValueError: If it does not learn, or not by free decisions.
    """
    if adaptive and getattr(selector, 'draw', None) not in FREE_DRAWS:
        raise ValueError(
            f"counts='adaptive' lets a selector decide how many units of an image stay, which it learns by decisions "
            f"that are free to differ: give selector=dict(type=..., draw='batch'), or draw='gumbel', with a selector "
            f'that learns, such as sparsevit_mm.MultiHeadSelector; {type(selector).__name__} has '
            f'draw={getattr(selector, "draw", None)!r}.'
        )
