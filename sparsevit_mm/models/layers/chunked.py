import torch
from torch import Tensor, nn

from ...ops import rows_per_chunk

__all__ = ['Chunked']


class Chunked(nn.Module):
    """A layer that in inference computes some rows after the others.

    Attributes:
        chunk_rows: How many at once; ``None`` for what suits the device.
    """

    chunk_rows: int | None = None

    def rows_at_once(self, rows: Tensor, width: int) -> int | None:
        """How many rows ``[..., C]`` to compute at once; ``None`` for all, as wherever gradients are wanted.

        Args:
            rows: For their device and dtype.
            width: Channels of the widest buffer that the layer makes of them.
        """
        if self.training or torch.is_grad_enabled():
            return None
        return rows_per_chunk(rows, width, self.chunk_rows)
