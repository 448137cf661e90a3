"""Where the time of a forward pass goes: blocks, told apart by the moments in which they end."""

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModule
from torch import nn

from ..models import SparseBackbone
from .backbone_identity import blocks_of

__all__ = ['BlockClock']


class BlockClock:
    """Times the sites of a backbone while the whole of it runs.

    The interval from the end of a block to the end of the next one belongs to the site of the latter. So selecting and
    gathering before a block are its own, and the intervals add up to the whole. On CUDA, times are those of events in
    the stream, on the CPU of the clock.

    Args:
        backbone: One of ours.
        device: Where it runs.

    Raises:
        ValueError: If the blocks are not where those of our backbones are.
    """

    def __init__(self, backbone: SparseBackbone, device: torch.device) -> None:
        self._blocks = blocks_of(backbone)
        self._num_sites = len(backbone.sites)
        self._device = device
        self._stamps: list[tuple[int | None, Any]] = []
        self._depth = 0

    def time(self, call: Callable[[], object]) -> float:
        """Seconds of a call, with nothing else going on."""
        start = self._now()
        call()
        return float(self._seconds([start, self._now()])[0])

    def time_sites(self, call: Callable[[], object]) -> np.ndarray:
        """Seconds of each site in a call that runs the backbone once, and last what no site governs, ``[sites + 1]``.

        That are blocks before the first site, what comes before a first block without a site, and what comes after
        the last block.
        """
        self._stamps, self._depth = [], 0
        with self._watching():
            start = self._now()
            call()
            end = self._now()
        owners = [*(site for site, _ in self._stamps), None]
        seconds = self._seconds([start, *(moment for _, moment in self._stamps), end])
        totals = np.zeros(self._num_sites + 1)
        np.add.at(totals, [self._num_sites if site is None else site for site in owners], seconds)
        return totals

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Puts stamps behind every public method of the blocks: stages may call more of them than ``forward``."""
        with ExitStack() as stack:
            for block, site in self._blocks:
                for name in _public_methods(block):
                    own = vars(block).get(name)
                    setattr(block, name, self._stamped(getattr(block, name), site))
                    stack.callback(setattr, block, name, own) if own else stack.callback(delattr, block, name)
            yield

    def _stamped(self, method: Callable[..., Any], site: int | None) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            try:
                result = method(*args, **kwargs)
            finally:
                self._depth -= 1
            if self._depth == 0:
                self._stamps.append((site, self._now()))
            return result

        return call

    def _now(self) -> Any:
        if self._device.type != 'cuda':
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _seconds(self, moments: list[Any]) -> np.ndarray:
        """The intervals between moments."""
        if self._device.type != 'cuda':
            return np.diff(moments)
        torch.cuda.synchronize(self._device)
        return np.array([before.elapsed_time(after) / 1e3 for before, after in pairwise(moments)])


def _public_methods(block: nn.Module) -> set[str]:
    """Names of the methods that the class of a block and its bases, up to mmengine's and torch's, define."""
    own = [cls for cls in type(block).__mro__ if not issubclass(BaseModule, cls)]
    return {
        name
        for cls in own
        for name, value in vars(cls).items()
        if inspect.isfunction(value) and not name.startswith('_')
    }
