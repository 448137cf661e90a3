"""Work that the first of several ranks does for all of them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process

__all__ = ['FirstRank']

T = TypeVar('T')

_PATIENCE = timedelta(days=7)  # ranks whose first one dies are told so by their broken connection


class FirstRank:
    """Calls on the first rank and gives every rank the result.

    What is called may take long: a latency table is measured, a server is away for a while. The default group of a
    launcher ends a wait after 30 minutes, or 10 on GPUs, so ranks wait in a group of their own, which on GPUs leaves
    them idle as well.

    All ranks have to make one at the same time, and to call it in the same order.
    """

    def __init__(self) -> None:
        self._group: Any = None
        if get_world_size() > 1 and torch.distributed.is_gloo_available():
            self._group = torch.distributed.new_group(backend='gloo', timeout=_PATIENCE)

    def __call__(self, call: Callable[[], T]) -> T:
        """Calls on the first rank; returns its result or raises its error on every rank.

        Args:
            call: Needs no other rank. What it returns or raises can be pickled.
        """
        if get_world_size() == 1:
            return call()
        result: list[Any] = [None]
        if is_main_process():
            try:
                result = [(call(), None)]
            except Exception as error:
                result = [(None, error)]
        broadcast_object_list(result, group=self._group)
        value, error = result[0]
        if error is not None:
            raise error
        return value
