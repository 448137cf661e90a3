"""Windows of a token map as rows of indices: shift, padding and partition in one table.

Legend: ``B`` batch, ``H, W`` tokens of the map, ``L = H * W``, ``nW`` windows, ``N = window ** 2`` tokens of a
window, ``K`` kept windows, ``V`` real tokens (no padding) that kept windows hold at most.
"""

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

__all__ = ['WindowGrid', 'build_window_grid', 'pool_windows', 'window_token_counts']

# What stock Swin adds to the scores of tokens that the cyclic shift made neighbours.
SHIFT_MASK_VALUE = -100.0


def window_token_counts(height: int, width: int, window: int, shift: int) -> list[int]:
    """Real tokens in each window of a map, in the order of the windows; the rest of a window is padding."""

    def along(length: int) -> list[int]:
        padded = -(-length // window) * window
        places = [(i + shift) % padded < length for i in range(padded)]
        return [sum(places[i : i + window]) for i in range(0, padded, window)]

    return [rows * columns for rows in along(height) for columns in along(width)]


@dataclass(frozen=True, eq=False)
class WindowGrid:
    """Where the tokens of every window of one map size and shift stand.

    Args:
        height: Tokens of the map from top to bottom.
        width: Tokens of the map from left to right.
        window: Side of a window in tokens.
        shift: Cyclic shift of the windows in tokens.
        rows: ``[nW, N]`` place of each token in the flattened map; ``H * W`` stands for padding.
        kinds: ``[nW]`` which attention mask a window needs (0: none).
        masks: ``[4, N, N]`` attention masks of the kinds, added to the attention scores. ``None`` without shift.
        token_counts: Real tokens of each window.
        owners: ``[H * W]`` the window that each token is in.
        sizes: ``[nW]`` real tokens of each window as float32, 1 where there is none: what a mean over it divides by.
        most: Real tokens that 0, 1, 2, ... windows hold at most.
    """

    height: int
    width: int
    window: int
    shift: int
    rows: Tensor
    kinds: Tensor
    masks: Tensor | None
    token_counts: tuple[int, ...]
    owners: Tensor
    sizes: Tensor
    most: tuple[int, ...]

    @property
    def num_windows(self) -> int:
        return len(self.token_counts)

    @property
    def length(self) -> int:
        return self.height * self.width

    @property
    def padded(self) -> bool:
        """Whether some window holds padding."""
        return sum(self.token_counts) < self.num_windows * self.window**2

    def most_tokens(self, num_kept: int) -> int:
        """Real tokens that ``num_kept`` windows hold at most: a static bound for any selection."""
        return self.most[num_kept]


def build_window_grid(height: int, width: int, window: int, shift: int, device: torch.device | str) -> WindowGrid:
    """Tables of the windows of a map, padded to the right and below to a multiple of the window."""
    rows_down, rows_across = -(-height // window), -(-width // window)
    padded_h, padded_w = rows_down * window, rows_across * window
    # After the shift, place (y, x) of the padded map holds what was at (y + shift, x + shift).
    y = (torch.arange(padded_h, device=device) + shift) % padded_h
    x = (torch.arange(padded_w, device=device) + shift) % padded_w
    place = y[:, None] * width + x[None, :]
    real = (y[:, None] < height) & (x[None, :] < width)
    place = torch.where(real, place, height * width)
    # [nWh, w, nWw, w] -> [nW, N]
    rows = place.view(rows_down, window, rows_across, window).transpose(1, 2).reshape(-1, window**2)
    last_down = torch.arange(rows_down, device=device) == rows_down - 1
    last_across = torch.arange(rows_across, device=device) == rows_across - 1
    kinds = (2 * last_down[:, None] + last_across[None, :].long()).flatten()
    windows = torch.arange(rows.shape[0], device=device)[:, None].expand_as(rows)
    owners = torch.empty(height * width + 1, dtype=torch.long, device=device)
    owners = owners.scatter(0, rows.flatten(), windows.flatten())[: height * width]
    counts = window_token_counts(height, width, window, shift)
    return WindowGrid(
        height=height,
        width=width,
        window=window,
        shift=shift,
        rows=rows,
        kinds=kinds,
        masks=_shift_masks(window, shift, device) if shift else None,
        token_counts=tuple(counts),
        owners=owners,
        sizes=(rows < height * width).sum(1).clamp(min=1).float(),
        most=(0, *accumulate(sorted(counts, reverse=True))),
    )


def _shift_masks(window: int, shift: int, device: torch.device | str) -> Tensor:
    """Masks of the four kinds of shifted windows: inner, right edge, bottom edge, corner. ``[4, N, N]``.

    Only the last window of a row or column mixes tokens that are no neighbours in the map: its last
    ``shift`` rows or columns came round from the other side.
    """
    # As numbers: torch's compiler fails at comparisons of comparisons.
    wrapped = (torch.arange(window, device=device) >= window - shift).long()
    same = wrapped[:, None] == wrapped[None, :]  # [w, w]
    anything = torch.ones_like(same)

    def mask(down: Tensor, across: Tensor) -> Tensor:
        # Token (i, j) sees (k, l) if both axes allow it: [w, w], [w, w] -> [N, N]
        allowed = down[:, None, :, None] & across[None, :, None, :]
        blocked = ~allowed.reshape(window**2, window**2)
        return torch.zeros(blocked.shape, device=device).masked_fill(blocked, SHIFT_MASK_VALUE)

    return torch.stack([mask(anything, anything), mask(anything, same), mask(same, anything), mask(same, same)])


def pool_windows(tokens: Tensor, grid: WindowGrid) -> Tensor:
    """Mean of the real tokens of each window, ``[B, L, C] -> [B, nW, C]`` in float32."""
    tokens = tokens.float()
    if grid.padded:
        tokens = torch.nn.functional.pad(tokens, (0, 0, 0, 1))
    # [B, L, C] -> [B, nW, N, C] -> [B, nW, C]
    return tokens[:, grid.rows].sum(2) / grid.sizes[:, None]
