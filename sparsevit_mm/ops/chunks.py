"""How many rows to compute at once."""

import torch
from torch import Tensor

from .observers import is_observed

__all__ = ['rows_per_chunk']

# The widest buffer of a block is the hidden layer of its FFN. A chunk whose buffers stay in the caches of the cores
# that share it is fastest, and large buffers are also mapped anew by the C library at every use, which costs more than
# the arithmetic on them. Swin-T on 2 cores with 1 MiB of level-2 cache each: 2 to 5 MiB alike, 10 MiB slower by half.
BYTES_PER_THREAD = 2 << 20
MOST_BYTES = 16 << 20
# Below, products of wide layers pass over their weights too often.
LEAST_ROWS = 1024


def rows_per_chunk(rows: Tensor, width: int, chosen: int | None = None, least: int = LEAST_ROWS) -> int | None:
    """Rows ``[R, C]`` that a block should compute at once on this device.

    Args:
        rows: The rows, for their device and dtype.
        width: Channels of the widest buffer that the block makes of them.
        chosen: The number that somebody wants instead, on any device.
        least: Where this many fit the caches or not, they are computed at once.

    Returns:
        The number; ``None`` for all at once, as on a GPU and wherever something looks at the operators.
    """
    if is_observed():
        return None
    if chosen is not None or rows.device.type != 'cpu':
        return chosen
    size = min(BYTES_PER_THREAD * torch.get_num_threads(), MOST_BYTES)
    return max(least, size // (width * rows.element_size()))
