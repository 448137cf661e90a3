"""How a backbone is run when it is timed: as it is, compiled, or as captured CUDA graphs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ['MODES', 'MODE_NOTES', 'check_modes', 'in_mode', 'many_compilations']

MODES = ('eager', 'compiled', 'graphs')
MODE_NOTES = {
    'compiled': (
        'Compiled is torch.compile, of ours with fullgraph=True and dynamic=False. Compiling comes before the timing; '
        'its seconds are those of the first call.'
    ),
    'graphs': 'Graphs are CUDA graphs, captured before the timing and replayed.',
}
# Dynamo gives up on a function that was compiled eight times, and each sparsity is a compilation.
COMPILATIONS = 128


def check_modes(modes: Sequence[str], device: torch.device) -> tuple[str, ...]:
    """The modes to time in, each once.

    Raises:
        ValueError: If there is none, one is unknown, or one is not for this device.
    """
    modes = tuple(dict.fromkeys(modes))
    if not modes or set(modes) - set(MODES):
        raise ValueError(f'mode must be one or more of {", ".join(MODES)}, got {", ".join(modes) or "nothing"}.')
    if 'graphs' in modes and device.type != 'cuda':
        raise ValueError(f"mode 'graphs' captures CUDA graphs, but the device is {device}: use --device cuda.")
    return modes


def in_mode(backbone: nn.Module, mode: str, *, ours: bool) -> Callable[[Tensor], object]:
    """The backbone as it runs in a mode; what has to be compiled or captured is so at the first call.

    Args:
        backbone: On its device already.
        mode: One of ``MODES``.
        ours: Whether it has to compile to one graph of fixed shapes, as backbones of this package do.
    """
    if mode == 'compiled':
        return torch.compile(backbone, fullgraph=True, dynamic=False) if ours else torch.compile(backbone)
    if mode == 'graphs':
        from ..graphs import CUDAGraphed

        return CUDAGraphed(backbone)
    return backbone


@contextmanager
def many_compilations() -> Iterator[None]:
    """Let Dynamo compile a backbone at as many sparsities as a benchmark has rows, for a while."""
    from torch._dynamo import config

    name = 'recompile_limit' if hasattr(config, 'recompile_limit') else 'cache_size_limit'
    with config.patch({name: COMPILATIONS}):
        yield
