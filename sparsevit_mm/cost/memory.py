"""Peak memory of a call."""

import os
from collections.abc import Callable

import torch
from torch.autograd.profiler import profile

__all__ = ['measure_peak_memory']


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
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
