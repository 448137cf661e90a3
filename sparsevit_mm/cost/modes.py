"""How a backbone is run when it is timed: as it is, compiled, as captured CUDA graphs, or exported."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..compat import compilation_limit_option

__all__ = ['BACKENDS', 'MODES', 'MODE_NOTES', 'ONNXRUNTIME', 'check_modes', 'in_mode', 'many_compilations']

ONNXRUNTIME = 'onnxruntime'
MODES = ('eager', 'compiled', 'graphs')  # of torch
BACKENDS = ('torch', ONNXRUNTIME)
MODE_NOTES = {
    'compiled': (
        'Compiled is torch.compile of the backbone, of ours with fullgraph=True and dynamic=False. Compiling comes '
        'before the timing; its seconds are those of the first call.'
    ),
    'graphs': 'Graphs are CUDA graphs of the backbone, captured before the timing and replayed.',
    ONNXRUNTIME: (
        'ONNX Runtime runs the exported graph on the CPU with as many threads. Exporting and loading come before the '
        'timing. What memory it takes is not seen.'
    ),
}
# Dynamo gives up on a function that was compiled eight times, and each sparsity is a compilation.
COMPILATIONS = 128


def check_modes(modes: Sequence[str], device: torch.device) -> tuple[str, ...]:
    """The modes to time in, each once.

    Raises:
        ValueError: If there is none, one is unknown, or one is not for this device.
    """
    modes = tuple(dict.fromkeys(modes))
    if not modes or set(modes) - {*MODES, ONNXRUNTIME}:
        raise ValueError(f'mode must be one or more of {", ".join(MODES)}, got {", ".join(modes) or "nothing"}.')
    if ONNXRUNTIME in modes and device.type != 'cpu':
        raise ValueError(f'backend {ONNXRUNTIME} is timed on the CPU, but the device is {device}: use --device cpu.')
    if 'graphs' in modes and device.type != 'cuda':
        raise ValueError(f"mode 'graphs' captures CUDA graphs, but the device is {device}: use --device cuda.")
    return modes


def in_mode(backbone: nn.Module, mode: str, *, ours: bool) -> Callable[[Tensor], object]:
    """The backbone as it runs in a mode; what has to be compiled or captured is so at the first call.

    Args:
        backbone: On its device already.
        mode: One of ``MODES``, or ``ONNXRUNTIME``.
        ours: Whether it has to compile to one graph of fixed shapes, as backbones of this package do.
    """
    if mode == 'compiled':
        return torch.compile(backbone, fullgraph=True, dynamic=False) if ours else torch.compile(backbone)
    if mode == 'graphs':
        from ..graphs import CUDAGraphed

        return CUDAGraphed(backbone)
    if mode == ONNXRUNTIME:
        from ..deploy.onnx_run import OnnxBackbone

        return OnnxBackbone(backbone)
    return backbone


@contextmanager
def many_compilations() -> Iterator[None]:
    """Let Dynamo compile a backbone at as many sparsities as a benchmark has rows, for a while."""
    from torch._dynamo import config

    with config.patch({compilation_limit_option(): COMPILATIONS}):
        yield
