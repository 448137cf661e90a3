"""How many rows to compute at once."""

from torch import Tensor

from .cache import is_tracing

__all__ = ['rows_per_chunk']

# The widest buffer of a block is the hidden layer of its FFN. Allocators map buffers above 32 MiB anew at every use,
# which costs more than the arithmetic on them; much smaller ones make matrix products pack their weights too often.
# Swin-T at 800x1344 on 2 cores with 1 MiB of level-2 cache each: from 2 to 24 MiB alike, 64 MiB and all at once slower.
CHUNK_BYTES = 16 << 20


def rows_per_chunk(rows: Tensor, width: int) -> int | None:
    """Rows ``[R, C]`` that a block should compute at once on this device.

    Args:
        rows: The rows, for their device and dtype.
        width: Channels of the widest buffer that the block makes of them.

    Returns:
        The number; ``None`` for all at once, as on a GPU and under a trace.
    """
    if rows.device.type != 'cpu' or is_tracing():
        return None
    return max(1, CHUNK_BYTES // (width * rows.element_size()))
