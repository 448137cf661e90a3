"""Blocks of a plain ViT over those tokens that stay (DynamicViT, arXiv 2106.02034)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import ModuleList
from torch import Tensor, nn

from ...ops import PackedTokens, gather_tokens, keep_mask, put_tokens, rank_units
from ...selectors import Selector, build_selector, check_counts
from ...sparsity import keep_count
from .idle import keep_in_graph
from .packages import Packages, pack_with_packages, put_with_packages, run_with_packages
from .two_path import PathObserver

__all__ = ['TokenSites', 'TokenState']


@dataclass(frozen=True, eq=False)
class TokenState:
    """All tokens after a block.

    Args:
        block: Its index.
        tokens: ``[B, P + L, C]``, those dropped with their last features. Later blocks may write into them.
        kept: ``[B, K]`` places in the image of those that the block computed; ``None`` for all.
        decisions: ``[B, L]``, 1 for those that it computed, where images may differ in their number.
    """

    block: int
    tokens: Tensor
    kept: Tensor | None = None
    decisions: Tensor | None = None

    def computed(self, length: int) -> Tensor | None:
        """``[B, L]``, true where the block computed a token; ``None`` where it computed all."""
        if self.decisions is not None:
            return self.decisions.detach() > 0
        return None if self.kept is None else keep_mask(self.kept, length)


@dataclass(frozen=True, eq=False)
class _Pass:
    """What one pass is to do, as :meth:`TokenSites.run` is told; ``counts`` are the tokens that sites keep."""

    layers: Sequence[nn.Module]
    counts: Sequence[int]
    wanted: Collection[int]
    hw_shape: tuple[int, int]
    observe: PathObserver | None


class TokenSites(ModuleList):
    """The selectors of a plain ViT, the blocks before which they decide, and how blocks run in between.

    Args:
        config: Config of each selector.
        embed_dims: Channels of the tokens.
        num_heads: Attention heads of the blocks.
        blocks: Before which a selector decides, ascending.
        prefix: Tokens before those of the image, ``P``; they always stay.
        reactivate: Whether a site chooses from all tokens, and not only from what the one before kept.
        package: Where dropped tokens go: ``'separate'`` into a package token a site, ``'merged'`` into one for all
            sites, ``None`` nowhere. Where tokens can come back, each site packs all that it leaves out anew.
        unfold: Whether tokens that went into a package get what it has learned, ``'residual'``, or stay as they were,
            ``'reuse'``.
        adaptive: Whether the scores decide how many tokens of an image stay, and not its sparsity. A site with sparsity
            0 is dense all the same.

    Raises:
        ValueError: If the selector cannot be built, needs a class token where there is none, or does not fit adaptive
            counts.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        embed_dims: int,
        num_heads: int,
        blocks: Sequence[int],
        prefix: int,
        reactivate: bool,
        package: str | None = None,
        unfold: str = 'residual',
        adaptive: bool = False,
    ) -> None:
        super().__init__([build_selector(config, embed_dims, num_heads) for _ in blocks])
        if prefix == 0 and any(selector.wants_class_attention for selector in self):
            raise ValueError(
                f'selector {config["type"]} ranks by the class token, but with_cls_token=False: choose another one.'
            )
        self.blocks, self.prefix, self.reactivate = tuple(blocks), prefix, reactivate
        self.package, self.unfold, self.adaptive = package, unfold, adaptive
        for selector in self:
            check_counts(selector, adaptive)

    def learning(self) -> bool:
        """Whether decisions get a gradient in a pass that starts now."""
        return self.training and torch.is_grad_enabled() and any(selector.learns for selector in self)

    def run(
        self,
        x: Tensor,
        layers: Sequence[nn.Module],
        sparsity: Sequence[float],
        wanted: Collection[int],
        hw_shape: tuple[int, int],
        observe: PathObserver | None = None,
    ) -> Iterator[TokenState]:
        """Runs the blocks. Where a selector is learning over all tokens, with those dropped masked out; otherwise
        over those alone that stay, without padding where images keep different numbers. All give the same tokens for
        the same decisions.

        Args:
            x: ``[B, P + L, C]``; changed in place.
            layers: The blocks.
            sparsity: Fraction of the ``L`` tokens that is not computed from a site on, one value a site.
            wanted: Blocks after which to tell the state.
            hw_shape: ``(H, W)`` of the map, for the observer.
            observe: Told what blocks compute and what selectors want.

        Returns:
            The state after each block of ``wanted``, one after the other: the next block runs when it is asked for.
        """
        counts = [keep_count(x.shape[1] - self.prefix, value) for value in sparsity]
        if self.learning():
            run = self._run_masked
        else:
            run = self._run_packed if self.adaptive else self._run_gathered
        return run(x, _Pass(layers, counts, wanted, hw_shape, observe))

    def _run_gathered(self, x: Tensor, asked: _Pass) -> Iterator[TokenState]:
        prefix, total = self.prefix, x.shape[1] - self.prefix
        index: Tensor | None = None  # [B, P + K] tokens that are computed, None for all
        packages: Packages | None = None
        active = x
        for i, layer in enumerate(asked.layers):
            if i in self.blocks:
                count = asked.counts[self.blocks.index(i)]
                if count < (total if self.reactivate else active.shape[1] - prefix):
                    x, packages = self._unfolded(_whole(x, index, active), packages)
                    pool = x if self.reactivate else active
                    scores = self._score(i, layer, pool, None).detach()
                    chosen = rank_units(scores)[:, :count].sort(dim=1).values
                    if self.package is not None:
                        gone = ~keep_mask(chosen, scores.shape[1])
                        packages = self._pack(packages, pool, scores, gone.float(), self._at(i).learns, index, total)
                    chosen = self._with_prefix(chosen)
                    index = chosen if self.reactivate or index is None else index.gather(1, chosen)
                    active = gather_tokens(x, index)
            kept = None if index is None else index[:, prefix:] - prefix
            self._tell(asked, i, kept, x.shape[0], packages)
            active, packages = run_with_packages(layer, active, None, packages)
            if i in asked.wanted:
                x, packages = self._unfolded(_whole(x, index, active), packages)
                yield TokenState(i, x, kept)

    def _run_masked(self, x: Tensor, asked: _Pass) -> Iterator[TokenState]:
        prefix, total = self.prefix, x.shape[1] - self.prefix
        alive: Tensor | None = None  # [B, L] decisions
        kept: Tensor | None = None
        packages: Packages | None = None
        for i, layer in enumerate(asked.layers):
            if i in self.blocks:
                selector = self._at(i)
                if (count := asked.counts[self.blocks.index(i)]) < total:
                    x, packages = self._unfolded(x, packages)
                    before = None if self.reactivate else alive
                    scores = self._score(i, layer, x, before)
                    alive, kept = selector.decide(scores, count, before)
                    if asked.observe is not None:
                        asked.observe.wanted(i, selector.keep_ratio(scores, alive, before))
                        if self.adaptive:
                            asked.observe.counted(i, (alive.detach() > 0).sum(1))
                    if self.package is not None:
                        gone = (1 if before is None else before) - alive
                        packages = self._pack(packages, x, scores, gone, selector.learns, None, total)
                else:
                    x = keep_in_graph(x, selector)
            if alive is None or kept is not None:
                self._tell(asked, i, kept, x.shape[0], packages)
            x, packages = run_with_packages(
                layer, x, None if alive is None else F.pad(alive, (prefix, 0), value=1.0), packages
            )
            if i in asked.wanted:
                x, packages = self._unfolded(x, packages)
                yield TokenState(i, x, kept, alive)

    def _run_packed(self, x: Tensor, asked: _Pass) -> Iterator[TokenState]:
        prefix, total = self.prefix, x.shape[1] - self.prefix
        stay: Tensor | None = None  # [B, L] tokens that are computed, None for all
        packed: PackedTokens | None = None
        packages: Packages | None = None
        for i, layer in enumerate(asked.layers):
            if i in self.blocks and asked.counts[self.blocks.index(i)] < total:
                if packed is not None:
                    x, packages = put_with_packages(packed, x, packages)
                x, packages = self._unfolded(x, packages)
                before = None if self.reactivate else stay
                scores = self._score(i, layer, x, None if before is None else before.float()).detach()
                stay = self._at(i).choose(scores, allowed=before)
                if self.package is not None:
                    gone = ~stay if before is None else before & ~stay
                    packages = self._pack(packages, x, scores, gone.float(), True, None, total)
                if asked.observe is not None:
                    asked.observe.counted(i, stay.sum(1))
                packed = pack_with_packages(x, F.pad(stay, (prefix, 0), value=True), packages)
            self._tell(asked, i, stay, x.shape[0], packages)
            if packed is None:
                x = layer(x)
            else:
                packed = layer.forward_packed(packed)
            if i in asked.wanted:
                if packed is not None:
                    x, packages = put_with_packages(packed, x, packages)
                    x, packages = self._unfolded(x, packages)
                yield TokenState(i, x, None, None if stay is None else stay.float())

    def _pack(
        self,
        packages: Packages | None,
        pool: Tensor,
        scores: Tensor,
        gone: Tensor,
        learns: bool,
        index: Tensor | None,
        total: int,
    ) -> Packages:
        """The packages from a site on.

        Args:
            packages: Those before it, unfolded.
            pool: ``[B, P + N, C]`` the tokens that it chose from.
            scores: ``[B, N]`` of them.
            gone: ``[B, N]``, 1 for those that it dropped, with a gradient to the decisions.
            learns: Whether scores are log-odds, whose probabilities weigh the tokens.
            index: ``[B, P + N]`` their places, ``None`` for all.
            total: Tokens of the image ``L``.
        """
        weights = gone * torch.sigmoid(scores) if learns else gone
        members = gone
        if index is not None and not self.reactivate:
            members = gone.new_zeros(len(gone), total).scatter(1, index[:, self.prefix :] - self.prefix, gone)
        new = Packages.fold(pool[:, self.prefix :], weights, members)
        if packages is None or self.reactivate:
            return new
        both = packages.beside(new)
        return both.merged() if self.package == 'merged' else both

    def _unfolded(self, x: Tensor, packages: Packages | None) -> tuple[Tensor, Packages | None]:
        """All tokens with what their packages have learned, and the packages after that."""
        if packages is None or self.unfold == 'reuse':
            return x, packages
        image, packages = packages.unfold(x[:, self.prefix :])
        return torch.cat([x[:, : self.prefix], image], dim=1), packages

    def _at(self, block: int) -> Selector:
        return self[self.blocks.index(block)]

    def _tell(self, asked: _Pass, block: int, kept: Tensor | None, batch: int, packages: Packages | None) -> None:
        if asked.observe is not None and self.blocks and block >= self.blocks[0]:
            members = None if packages is None else packages.members
            asked.observe.split(block, asked.hw_shape, kept, batch, members)

    def _with_prefix(self, chosen: Tensor) -> Tensor:
        """Places ``[B, K]`` in the image as places among all tokens, ``[B, P + K]``, those before the image's first."""
        first = torch.arange(self.prefix, device=chosen.device).expand(chosen.shape[0], -1)
        return torch.cat([first, chosen + self.prefix], dim=1)

    def _score(self, block: int, layer: nn.Module, tokens: Tensor, alive: Tensor | None) -> Tensor:
        selector = self._at(block)
        attention = layer.class_attention(tokens) if selector.wants_class_attention else None
        return selector(tokens[:, self.prefix :], alive, attention)


def _whole(x: Tensor, index: Tensor | None, active: Tensor) -> Tensor:
    """All tokens, with those that are computed at their places."""
    return active if index is None else put_tokens(x, index, active)
