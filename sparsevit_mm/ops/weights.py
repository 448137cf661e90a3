"""Weights in the order that oneDNN wants, kept from one call to the next.

Bringing all weights of a Swin-T into that order takes as long as a tenth of its pass at sparsity 0.8, so it is done
once. What is kept is used only as long as the parameter is the same tensor in the same memory, its version is the same,
nobody has called the layer with gradients or switched the mode of its backbone in between, and a sample of its values,
with one of every row and of every column, is the same: weights are also changed in ways that a version does not count,
such as through ``.data`` when a hook swaps in their moving averages.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ['forget_packed', 'packed_weight']

# What weights are ordered for; oneDNN has another order for a few rows.
MANY_ROWS = 1024


@dataclass(frozen=True, eq=False)
class _Packed:
    """A weight in oneDNN's order, and how the parameter looked when it was made."""

    weight: Tensor
    dtype: torch.dtype
    version: int
    address: int
    sample: Tensor

    def fits(self, parameter: Tensor, dtype: torch.dtype) -> bool:
        same = (self.version, self.address, self.dtype) == (parameter._version, parameter.data_ptr(), dtype)
        return same and torch.equal(self.sample, _sample(parameter))


_KEPT = WeakTensorKeyDictionary()


def packed_weight(weight: Tensor, dtype: torch.dtype, arrange: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """A weight of a linear layer in oneDNN's order.

    Args:
        weight: ``[C', C]``, or a convolution of 1x1. The same parameter must always come with the same ``arrange``.
        dtype: Of the arithmetic.
        arrange: Makes of it the ``[C', C]`` to multiply with, if that is another one.
    """
    if weight.is_inference() or type(weight) is not torch.nn.Parameter:
        return _pack(weight, dtype, arrange)
    kept = _KEPT.get(weight)
    if kept is None or not kept.fits(weight, dtype):
        # An inference tensor could not be used outside of inference mode later.
        with torch.inference_mode(False), torch.no_grad():
            sample = _sample(weight).clone()
            kept = _Packed(_pack(weight, dtype, arrange), dtype, weight._version, weight.data_ptr(), sample)
        _KEPT[weight] = kept
    return kept.weight


def forget_packed(weights: Iterable[Tensor]) -> None:
    """Makes that nothing is kept of these."""
    for weight in weights:
        _KEPT.pop(weight, None)


def _pack(weight: Tensor, dtype: torch.dtype, arrange: Callable[[Tensor], Tensor] | None) -> Tensor:
    matrix = weight.detach() if arrange is None else arrange(weight.detach())
    return torch.ops.mkldnn._reorder_linear_weight(matrix.flatten(1).to(dtype), MANY_ROWS)


def _sample(weight: Tensor) -> Tensor:
    """Some values of a weight, at least one of every row and of every column."""
    return weight.detach().flatten().index_select(0, _places(len(weight), weight.numel() // len(weight)))


@lru_cache(maxsize=256)
def _places(rows: int, columns: int) -> Tensor:
    """A diagonal through a matrix, gone on with from the first row or column until all are met."""
    with torch.inference_mode(False):
        steps = torch.arange(max(rows, columns), device='cpu')
        return steps % rows * columns + steps % columns
