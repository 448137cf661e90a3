"""Peak memory of a call, and what it looks like when there is too little."""

import os
from collections.abc import Callable

import torch
from torch.autograd.profiler import profile

from ..compat import event_start

__all__ = ['is_out_of_memory', 'measure_peak_memory']

# What torch's allocators of the CPU say, on Linux and macOS and on Windows.
_CPU_ALLOCATORS = ('DefaultCPUAllocator', 'not enough memory: you tried to allocate')


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left, on the CPU or on a CUDA device."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _CPU_ALLOCATORS)


def measure_peak_memory(call: Callable[[], object], device: torch.device) -> int | None:
    """The most bytes of tensors that a call holds at once, beyond what was allocated before it.

    Weights and input are there before and do not count; activations, results and the temporary buffers that
    operators ask torch for do. The figure comes from torch's own allocator: on CUDA
    ``max_memory_allocated() - memory_allocated()``, on the CPU the running sum of the allocations and releases that
    the profiler records. So it is free of what the allocator or the C library keeps for later, and smaller than the
    growth of the process; buffers inside BLAS and oneDNN are not seen.

    Returns:
        Bytes, or None where torch was built without its profiler.
    """
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if not torch.autograd.profiler.kineto_available():
        return None
    # Kineto reads this when the first profile starts; below this level it writes a line to stderr for every profile.
    os.environ.setdefault('KINETO_LOG_LEVEL', '6')
    with profile(profile_memory=True) as recorded:
        result = call()
    del result
    events = [event for event in recorded.kineto_results.events() if event.name() == '[memory]']
    held = peak = 0
    for event in sorted(events, key=event_start):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
