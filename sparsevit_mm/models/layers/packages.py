from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...ops import PackedTokens, fold_tokens, merge_packages, unfold_tokens

__all__ = ['Packages', 'pack_with_packages', 'put_with_packages', 'run_with_packages']


@dataclass(frozen=True, eq=False)
class Packages:
    """The package tokens of a batch (SPViT, arXiv 2112.13890).

    A package goes on taking part in attention for the tokens folded into it. In a map a dropped token then is its own
    last features plus what its package has learned since it was folded. (That is our choice: the paper classifies, and
    says nothing of maps.)

    Args:
        tokens: ``[B, m, C]``.
        before: ``[B, m, C]``, what they were when their members last got what they had learned.
        masses: ``[B, m]`` sums of the weights of their members.
        members: ``[B, m, L]``, 1 for the tokens of the image in a package, with a gradient to the decisions.
    """

    tokens: Tensor
    before: Tensor
    masses: Tensor
    members: Tensor

    @classmethod
    def fold(cls, tokens: Tensor, weights: Tensor, members: Tensor) -> 'Packages':
        """One package.

        Args:
            tokens: ``[B, N, C]`` candidates.
            weights: ``[B, N]`` of those that are folded, 0 for the others.
            members: ``[B, L]``, 1 for the same tokens at their places in the image.
        """
        package, mass = fold_tokens(tokens, weights)
        return cls(package, package, mass, members[:, None])

    @property
    def alive(self) -> Tensor:
        """``[B, m]``, 0 for those without members, which are not to be attended to."""
        return (self.masses.detach() > 0).float()

    def beside(self, others: 'Packages') -> 'Packages':
        """These and others."""
        pairs = ((getattr(self, name), getattr(others, name)) for name in ('tokens', 'before', 'masses', 'members'))
        return Packages(*(torch.cat(pair, dim=1) for pair in pairs))

    def merged(self) -> 'Packages':
        """All of them as one. Their members must have what they have learned by then, see :meth:`unfold`."""
        package, mass = merge_packages(self.tokens, self.masses)
        return Packages(package, package, mass, self.members.sum(1, keepdim=True))

    def unfold(self, tokens: Tensor) -> tuple[Tensor, 'Packages']:
        """``[B, L, C]`` tokens of the image with what their packages have learned, and the packages after that."""
        return unfold_tokens(tokens, self.members, self.tokens - self.before), replace(self, before=self.tokens)


def run_with_packages(
    layer: nn.Module, tokens: Tensor, alive: Tensor | None, packages: Packages | None
) -> tuple[Tensor, Packages | None]:
    """A block over tokens ``[B, N, C]`` and the packages behind them; ``alive`` as the block takes it, ``[B, N]``."""
    if packages is None:
        return layer(tokens, alive), None
    if alive is not None:
        alive = torch.cat([alive, packages.alive.to(alive.dtype)], dim=1)
    results = layer(torch.cat([tokens, packages.tokens], dim=1), alive)
    length = tokens.shape[1]
    return results[:, :length], replace(packages, tokens=results[:, length:])


def pack_with_packages(tokens: Tensor, mask: Tensor, packages: Packages | None) -> PackedTokens:
    """Tokens ``[B, N, C]`` where ``mask [B, N]`` is true, those of an image with its packages behind them.

    Packages without members are left out: there is nothing for them to tell.
    """
    if packages is None:
        return PackedTokens.pack(tokens, mask)
    return PackedTokens.pack(torch.cat([tokens, packages.tokens], dim=1), torch.cat([mask, packages.alive > 0], dim=1))


def put_with_packages(
    packed: PackedTokens, tokens: Tensor, packages: Packages | None
) -> tuple[Tensor, Packages | None]:
    """The inverse of :func:`pack_with_packages`: all tokens, and the packages after what they were packed for."""
    if packages is None:
        return packed.put(tokens), None
    length = tokens.shape[1]
    both = packed.put(torch.cat([tokens, packages.tokens], dim=1))
    return both[:, :length], replace(packages, tokens=both[:, length:])
