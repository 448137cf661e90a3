"""Ctrl-C that lets work in progress be finished."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mmengine.logging import print_log

__all__ = ['finish_on_interrupt']


@contextmanager
def finish_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Notes a first Ctrl-C instead of raising it; a second one raises ``KeyboardInterrupt`` as ever.

    Nothing is changed outside of the main thread, where signals cannot be handled, and where Ctrl-C is ignored, as in
    what a shell has put into the background.

    Yields:
        A function that says whether there was one.
    """
    seen = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if seen.is_set():
            raise KeyboardInterrupt
        seen.set()
        print_log('interrupted: the candidate is finished and the report written; again to stop at once', 'current')

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield seen.is_set
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen.is_set
    finally:
        signal.signal(signal.SIGINT, before)
