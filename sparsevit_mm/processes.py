"""Processes that do not outlive the one that started them."""

import ctypes
import signal
import sys
from collections.abc import Callable

__all__ = ['ENDS_WITH_PARENT', 'end_with_parent']

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """On Linux this process is killed when the thread that started it ends, by whatever cause."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


# ``preexec_fn`` of a process that is started; other systems than Linux have nothing of the kind.
ENDS_WITH_PARENT: Callable[[], None] | None = end_with_parent if sys.platform == 'linux' else None
