"""Whether something looks at the operators that run."""

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from .cache import is_tracing

__all__ = ['is_observed']


def is_observed() -> bool:
    """Whether operators of this moment are traced, transformed or counted.

    That is so in a trace, in a transform of ``torch.func``, and under a dispatch mode such as torch's flop counter.
    What runs then should be what the documentation of a layer says, and not what a processor does fastest.
    """
    if is_tracing() or _get_current_dispatch_mode() is not None:
        return True
    return torch._C._functorch.peek_interpreter_stack() is not None
