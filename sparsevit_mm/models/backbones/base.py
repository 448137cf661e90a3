from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmengine.model import BaseModule
from torch import Tensor

from ...ops import forget_packed
from ...selectors import Selector
from ...sparsity import DEFAULT_CHOICES, SparsityLayout, SparsitySpace
from ..layers import Chunked, FastPath

__all__ = ['SiteRecord', 'SparseBackbone']


@dataclass(frozen=True, eq=False)
class SiteRecord:
    """What one block of a site computed in one forward pass.

    Args:
        site: Name of the site.
        block: Index of the block in its stage, from 0.
        shift: Cyclic shift of its windows in tokens.
        grid: ``(H, W)`` tokens of the map.
        window: Side of a window in tokens.
        kept: ``[B, K]`` indices of the units computed; where images differ in their number filled up with -1.
        num_units: Units there are.
        packed: ``[B, H, W]``, true for tokens that are in a package token while the block runs; ``None`` where there
            is none.
    """

    site: str
    block: int
    shift: int
    grid: tuple[int, int]
    window: int
    kept: Tensor
    num_units: int
    packed: Tensor | None = None

    @property
    def counts(self) -> Tensor:
        """``[B]`` units computed of each image."""
        return (self.kept >= 0).sum(1)

    def token_mask(self) -> Tensor:
        """``[B, H, W]``, true where a token was computed; shifted windows are at their true places."""
        height, width = self.grid
        down, across = -(-height // self.window), -(-width // self.window)
        units = down * across
        windows = torch.zeros(self.kept.shape[0], units + 1, dtype=torch.bool, device=self.kept.device)
        windows = windows.scatter(1, self.kept.masked_fill(self.kept < 0, units), True)[:, :units]
        windows = windows.view(-1, down, across)
        tokens = windows.repeat_interleave(self.window, 1).repeat_interleave(self.window, 2)
        return tokens.roll((self.shift, self.shift), (1, 2))[:, :height, :width]


class ForwardNotes(dict[str | int, Tensor]):
    """Values of one forward pass, which belong to no copy and to no file."""

    def __deepcopy__(self, memo: dict) -> 'ForwardNotes':
        return ForwardNotes()

    def __reduce__(self) -> tuple:
        return ForwardNotes, ()


class SparseBackbone(BaseModule):
    """What every backbone of the package has: sites, one sparsity a site, and records of what was computed.

    Attributes:
        keep_ratios: Site names to the fraction of units ``[B]`` that a learned selector wants to keep, with its
            gradient, from the last forward pass in training. For losses; empty otherwise.
        computed_positions: Output indices to the positions ``[B, H, W]`` that the block before that output computed,
            from the last forward pass in training. Outputs of which every position was computed are left out.
        kept_counts: Site names to the units kept ``[B]`` of each image, from the last forward pass, where images have
            counts of their own.
        counts: ``'fixed'``, as many units of every image as the sparsity asks for, or ``'adaptive'``.
        block_sites: In backbones with stages, for each block of each stage the index of its site, ``None`` for those
            before the first one.
    """

    sparsity_layout: SparsityLayout
    block_sites: tuple[tuple[int | None, ...], ...]
    counts: str = 'fixed'

    def __init__(self, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self._sparsity: tuple[float, ...] = ()
        self._chunk_rows: int | None = None
        self._records: list[SiteRecord] | None = None
        self.keep_ratios = ForwardNotes()
        self.computed_positions = ForwardNotes()
        self.kept_counts = ForwardNotes()

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the places where the backbone decides what to compute, in the order of the forward pass."""
        return self.sparsity_layout.sites

    @property
    def sparsity(self) -> tuple[float, ...]:
        """Fraction of units that each site does not compute.

        Set it to a float for all sites, or to one value a site; within a stage it must not decrease.

        Raises:
            ValueError: On a wrong type, length, range or order.
        """
        return self._sparsity

    @sparsity.setter
    def sparsity(self, value: float | Sequence[float]) -> None:
        values = self.sparsity_layout.normalize(value)
        self.check_sparsity(values)
        self._sparsity = values

    def check_sparsity(self, values: tuple[float, ...]) -> None:
        """Looks at values that the layout allows, for what else a backbone asks of them.

        Raises:
            ValueError: If they do not fit its other options.
        """

    @property
    def chunk_rows(self) -> int | None:
        """How many rows (tokens of a batch) blocks compute at once in inference; ``None`` for what suits the device.

        Results do not depend on it. It bounds memory, and on the CPU it decides how fast blocks are.

        Raises:
            ValueError: If it is set to something else than ``None`` or a positive int.
        """
        return self._chunk_rows

    @chunk_rows.setter
    def chunk_rows(self, value: int | None) -> None:
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError(
                f'chunk_rows must be a positive int, the rows of tokens that blocks compute at once in inference, or '
                f'None for what suits the device, got {value!r}.'
            )
        self._chunk_rows = value
        for module in self.modules():
            if isinstance(module, Chunked):
                module.chunk_rows = value

    def sparsity_space(self, choices: Sequence[float] = DEFAULT_CHOICES) -> SparsitySpace:
        """All settings of the sites over some choices: what adaptation draws from and a search searches.

        Raises:
            ValueError: If the choices are not valid, or with adaptive counts, which follow no setting.
        """
        if self.counts == 'adaptive':
            raise ValueError(
                f"{type(self).__name__} has counts='adaptive': how much of an image is computed is what its selectors "
                f"were trained for, and no setting of the sparsity changes it. Set counts='fixed' to draw or search "
                f'sparsities.'
            )
        return SparsitySpace(self.sparsity_layout, tuple(choices))

    def train(self, mode: bool = True) -> 'SparseBackbone':
        """Sets the training mode. Weights may have changed since the last forward pass, whoever changed them."""
        forget_packed(self.parameters())
        return super().train(mode)

    @contextmanager
    def record_selections(self) -> Iterator[list[SiteRecord]]:
        """Collects, while it is open, a record for every block of a site that runs."""
        outer, self._records = self._records, []
        try:
            yield self._records
        finally:
            self._records = outer

    def of_blocks(self, stage: int) -> tuple[list[float], list[str | None]]:
        """The sparsity of each block of a stage and the name of its site: 0 and ``None`` before the first one."""
        sites = self.block_sites[stage]
        return [0.0 if i is None else self._sparsity[i] for i in sites], [
            None if i is None else self.sites[i] for i in sites
        ]

    def forget_last_pass(self) -> None:
        """Drops what the last forward pass noted, before a new one."""
        for notes in (self.keep_ratios, self.computed_positions, self.kept_counts):
            notes.clear()

    def selectors(self) -> Iterator[Selector]:
        """The selectors of the backbone."""
        return (module for module in self.modules() if isinstance(module, Selector))

    def init_grown_parts(self) -> None:
        """Initialises what stock backbones, and so their checkpoints, do not have: selectors and fast paths."""
        for module in self.modules():
            if isinstance(module, Selector | FastPath):
                module.init_weights()
