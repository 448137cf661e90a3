"""A small bounded cache for index tensors that depend on sizes only."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from ..compat import is_compiling

T = TypeVar('T')

__all__ = ['IndexCache', 'as_numbers', 'is_tracing', 'keep_cached_values']

_KEPT: list[list[object]] = []


def is_tracing() -> bool:
    """Whether tensors of this moment belong to a trace and must not outlive it."""
    return is_compiling() or torch.jit.is_tracing()  # the exporters of ONNX do one or the other


def as_numbers(sizes: Iterable[int]) -> tuple[int, ...]:
    """Sizes as numbers also where a compiler takes them for variables; what it makes then is for these sizes alone."""
    return tuple(len(range(size)) for size in sizes)


@contextmanager
def keep_cached_values() -> Iterator[list[object]]:
    """Collects all that caches give while it is open: what reads it later, as a captured graph does, must keep it."""
    kept: list[object] = []
    _KEPT.append(kept)
    try:
        yield kept
    finally:
        _KEPT.remove(kept)


class IndexCache:
    """Least-recently-used cache of values built from sizes, kept on the module that uses them.

    Not a buffer: it stays out of state dicts, copies and pickles. Values are built as ordinary tensors
    even under ``torch.inference_mode``, since an inference tensor would break a later training step; under a
    trace they are built anew, since a cached fake tensor would silently break later eager results.

    Args:
        max_items: How many values are kept. Multi-scale training meets many sizes, so there must be an end.
    """

    def __init__(self, max_items: int = 64) -> None:
        self.max_items = max_items
        self._items: OrderedDict[Hashable, object] = OrderedDict()

    def get(self, key: Hashable, build: Callable[[], T]) -> T:
        """The value under a key, built if it is not there."""
        if is_tracing():
            return build()
        if key in self._items:
            self._items.move_to_end(key)
            value = self._items[key]
        else:
            with torch.inference_mode(False), torch.no_grad():
                value = build()
            self._items[key] = value
            if len(self._items) > self.max_items:
                self._items.popitem(last=False)
        for kept in _KEPT:
            kept.append(value)
        return value

    def __len__(self) -> int:
        return len(self._items)

    def __deepcopy__(self, memo: dict) -> 'IndexCache':
        return IndexCache(self.max_items)

    def __reduce__(self) -> tuple:
        return IndexCache, (self.max_items,)
