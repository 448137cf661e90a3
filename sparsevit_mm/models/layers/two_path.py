"""Tokens on a slow and a fast path (dynamic spatial sparsification, arXiv 2207.01580)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from mmengine.model import ModuleList
from torch import Tensor

from ...ops import rank_units, write_rows
from ...selectors import Selector, build_selector
from ...sparsity import keep_count

__all__ = ['PathChoice', 'PathObserver', 'PathSelectors', 'mix_paths']


class PathObserver(Protocol):
    """Who is told what the blocks of a stage do."""

    def split(
        self, block: int, hw_shape: tuple[int, int], kept: Tensor | None, batch: int, members: Tensor | None = None
    ) -> None:
        """Before a block of a site runs: the tokens that it computes in full.

        Their places ``[B, K]``, or a mask ``[B, L]`` where images have counts of their own; ``None`` for all.
        ``members [B, m, L]`` is 1 for the tokens that are in a package.
        """

    def wanted(self, block: int, ratio: Tensor) -> None:
        """The fraction of units ``[B]`` that a learning selector would keep, with a gradient."""

    def counted(self, block: int, counts: Tensor) -> None:
        """The units ``[B]`` that a site keeps of each image, where images have counts of their own."""


@dataclass(frozen=True, eq=False)
class PathChoice:
    """The path of every token of a batch.

    Args:
        kept: ``[B, K]`` tokens on the slow path, in ascending order; ``None`` where images differ in their number.
        rest: ``[B, L - K]`` tokens on the fast path, likewise.
        decisions: ``[B, L]``, 1 for the slow path, with a gradient to the selector; ``None`` where none is learning.
        ratio: ``[B]`` fraction of tokens that a learning selector wants on the slow path, with a gradient.
    """

    kept: Tensor | None
    rest: Tensor | None = None
    decisions: Tensor | None = None
    ratio: Tensor | None = None

    def rows(self) -> tuple[Tensor, Tensor]:
        """The same tokens as rows of the flattened batch, ``[B * K]`` and ``[B * (L - K)]``."""
        batch, length = self.kept.shape[0], self.kept.shape[1] + self.rest.shape[1]
        offset = torch.arange(batch, device=self.kept.device)[:, None] * length
        return (self.kept + offset).flatten(), (self.rest + offset).flatten()


class PathSelectors(ModuleList):
    """The selectors of a stage, and the blocks before which they decide.

    A decision holds up to the next site. It is made from all tokens anew, so a token that took the fast path can come
    back.

    Args:
        config: Config of each selector.
        embed_dims: Channels of the features.
        positions: Blocks of the sites, ascending.
        num_heads: Attention heads of the blocks, if they have any.

    Raises:
        ValueError: If the selector cannot be built, or needs a class token.
    """

    def __init__(
        self, config: Mapping[str, Any], embed_dims: int, positions: Sequence[int], num_heads: int | None = None
    ) -> None:
        super().__init__([_token_selector(config, embed_dims, num_heads) for _ in positions])
        self.positions = tuple(positions)

    def at(self, block: int) -> Selector | None:
        """The selector that decides before a block, if there is a site."""
        return self[self.positions.index(block)] if block in self.positions else None

    def follow(
        self,
        block: int,
        held: PathChoice | None,
        tokens: Tensor,
        hw_shape: tuple[int, int],
        sparsity: float,
        observe: PathObserver | None,
    ) -> PathChoice | None:
        """The paths of a block: chosen anew where a site is, else those that hold.

        Args:
            block: Its index.
            held: The paths of the block before.
            tokens: ``[B, L, C]``. May be changed in place later.
            hw_shape: ``(H, W)``.
            sparsity: Fraction of the tokens for the fast path; 0 before the first site.
            observe: Told what comes of it.
        """
        if block in self.positions:
            held = self.choose(block, tokens, sparsity)
        if observe is None or not self.positions or block < self.positions[0]:
            return held
        if block in self.positions and held is not None and held.ratio is not None:
            observe.wanted(block, held.ratio)
        if held is None or held.kept is not None:
            observe.split(block, hw_shape, None if held is None else held.kept, tokens.shape[0])
        return held

    def choose(self, block: int, tokens: Tensor, sparsity: float) -> PathChoice | None:
        """The paths from a site on, ``None`` where its sparsity sends all tokens along the slow one.

        Args:
            block: Where the site is.
            tokens: ``[B, L, C]``. May be changed in place later.
            sparsity: Fraction of the tokens for the fast path.
        """
        count = keep_count(tokens.shape[1], sparsity)
        if count == tokens.shape[1]:
            return None
        selector = self.at(block)
        if selector.learns and selector.training and torch.is_grad_enabled():
            scores = selector(tokens.clone())
            decisions, kept = selector.decide(scores, count)
            kept = None if kept is None else kept.sort(dim=1).values
            return PathChoice(kept, decisions=decisions, ratio=selector.keep_ratio(scores, decisions))
        with torch.no_grad():
            order = rank_units(selector(tokens))
        return PathChoice(order[:, :count].sort(dim=1).values, order[:, count:].sort(dim=1).values)


def mix_paths(
    x: Tensor, choice: PathChoice, slow: Callable[[Tensor, Tensor | None], Tensor], fast: Callable[[Tensor], Tensor]
) -> Tensor:
    """Each token through its own path.

    Where a selector is learning both paths run everywhere, and their results are mixed by the decisions, which are 0
    or 1: so the map is that of inference. (The released code keeps a state for each path through several blocks, so a
    token that changes paths meets an old one in training and the merged one in inference.)

    Args:
        x: ``[B, L, C]``.
        choice: The paths.
        slow: ``[B, K, C] -> [B, K, C]``; with decisions ``[B, K]`` as a second argument where some of what it gets
            does not belong on this path.
        fast: ``[B, M, C] -> [B, M, C]``.

    Returns:
        ``[B, L, C]``.
    """
    if choice.decisions is not None:
        results = slow(x, choice.decisions.detach()), fast(x)
        gate = choice.decisions[..., None].to(results[0].dtype)
        return gate * results[0] + (1 - gate) * results[1]
    batch, _, dims = x.shape
    rows = x.flatten(0, 1)
    mixed = None
    for index, path in zip(choice.rows(), (lambda part: slow(part, None), fast)):
        result = path(rows.index_select(0, index).view(batch, -1, dims)).flatten(0, 1)
        mixed = result.new_empty(rows.shape) if mixed is None else mixed
        mixed = write_rows(mixed, index, result)
    return mixed.view_as(x)


def _token_selector(config: Mapping[str, Any], embed_dims: int, num_heads: int | None) -> Selector:
    selector = build_selector(config, embed_dims, num_heads)
    if selector.wants_class_attention:
        raise ValueError(
            f'selector {type(selector).__name__} ranks by a class token, and a backbone with fast and slow paths has '
            f'none: choose sparsevit_mm.PredictorSelector, for instance.'
        )
    return selector
