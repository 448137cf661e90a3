"""Putting a module under the conditions of a measurement, and back."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from numbers import Integral, Real

import torch
from torch import Tensor, nn

__all__ = [
    'autocast',
    'check_device',
    'check_dtype',
    'check_float32',
    'check_image_shape',
    'check_schedule',
    'check_threads',
    'fixed_threads',
    'measuring',
    'random_images',
]

DTYPES = ('float32', 'bfloat16', 'float16')


def check_device(device: str | torch.device) -> torch.device:
    """The device to measure on.

    Raises:
        ValueError: If it is neither the CPU nor a CUDA device that torch sees.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        found = None
    if found is None or found.type not in ('cpu', 'cuda'):
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:INDEX', got {device!r}.")
    if found.type == 'cuda' and not torch.cuda.is_available():
        raise ValueError(
            f"device is {str(device)!r}, but torch {torch.__version__} sees no CUDA device here. Use device 'cpu', or "
            f'install a CUDA build of torch and check the driver and CUDA_VISIBLE_DEVICES.'
        )
    if found.type == 'cuda' and found.index is not None and found.index >= torch.cuda.device_count():
        raise ValueError(f'device is {str(device)!r}, but there are {torch.cuda.device_count()} CUDA devices.')
    return found


def check_dtype(dtype: str | torch.dtype, device: torch.device) -> str:
    """The name of the arithmetic to measure in.

    Raises:
        ValueError: If it is none of ours, or if autocast does not know it on this device.
    """
    name = str(dtype).removeprefix('torch.')
    if name not in DTYPES:
        raise ValueError(f'dtype must be one of {", ".join(DTYPES)}, got {name!r}.')
    if name != 'float32' and not _autocasts(device, name):
        raise ValueError(
            f'dtype {name} is not supported by autocast on {device.type} with torch {torch.__version__} here. '
            f'Use float32{" or bfloat16" if name == "float16" else ""}, or another device.'
        )
    return name


def _autocasts(device: torch.device, dtype: str) -> bool:
    """Whether a matmul under autocast comes out in ``dtype``: older releases warn and go on in float32."""
    try:
        with autocast(device, dtype):
            matrix = torch.ones(8, 8, device=device)
            return (matrix @ matrix).dtype == getattr(torch, dtype)
    except RuntimeError:
        return False


def check_image_shape(shape: tuple[int, int], batch: int = 1) -> tuple[int, int]:
    """Height and width in pixels.

    Raises:
        ValueError: If they, or the batch, are no positive integers.
    """
    values = tuple(shape) if isinstance(shape, list | tuple | torch.Size) else ()
    if len(values) != 2 or not all(isinstance(v, Integral) and v > 0 for v in values):
        raise ValueError(f'shape must be two positive integers, height and width in pixels, got {shape!r}.')
    if not isinstance(batch, Integral) or batch < 1:
        raise ValueError(f'batch must be a positive integer, got {batch!r}.')
    return int(values[0]), int(values[1])


def check_float32(module: nn.Module) -> None:
    """Half precision is measured by autocast, over float32 weights.

    Raises:
        ValueError: If the weights are of another dtype.
    """
    dtypes = {str(p.dtype).removeprefix('torch.') for p in module.parameters() if p.is_floating_point()}
    if dtypes - {'float32'}:
        raise ValueError(
            f'The weights are {", ".join(sorted(dtypes))}, but latency is measured on float32 weights: dtype bfloat16 '
            f'and float16 are reached by autocast, as mm does. Call .float() on the model first.'
        )


def check_schedule(rounds: int, min_round_time: float, warmup: int = 0) -> None:
    """See :func:`measure_interleaved`.

    Raises:
        ValueError: If a number is out of range.
    """
    if not isinstance(rounds, Integral) or rounds < 1:
        raise ValueError(f'rounds must be a positive integer, got {rounds!r}.')
    if not isinstance(warmup, Integral) or warmup < 0:
        raise ValueError(f'warmup must be an integer from 0 on, got {warmup!r}.')
    if not isinstance(min_round_time, Real) or not 0 <= min_round_time < float('inf'):
        raise ValueError(f'min_round_time must be a number of seconds from 0 on, got {min_round_time!r}.')


def check_threads(threads: int | None) -> None:
    """None stands for the present number.

    Raises:
        ValueError: If it is no positive integer.
    """
    if threads is not None and (not isinstance(threads, Integral) or threads < 1):
        raise ValueError(f'threads must be a positive integer, got {threads!r}.')


@contextmanager
def fixed_threads(number: int) -> Iterator[None]:
    """Let torch use as many intra-op threads, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def autocast(device: torch.device, dtype: str) -> AbstractContextManager:
    """What mm users run: float32 weights, with half precision by autocast where ``dtype`` says so.

    The cast of the weights is part of every forward, as it is there.
    """
    if dtype == 'float32':
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=getattr(torch, dtype))


@contextmanager
def measuring(module: nn.Module, device: torch.device | None = None) -> Iterator[nn.Module]:
    """Put a module into evaluation mode on a device without gradients; leave it as it was found.

    The training flag of every submodule, the device and the sparsity (where there is one) are restored,
    also after an error. Parameter objects stay the same.
    """
    flags = [(child, child.training) for child in module.modules()]
    sparsity = getattr(module, 'sparsity', None)
    home = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), None)
    try:
        module.eval()
        if device is not None:
            module.to(device)
        with torch.no_grad():
            yield module
    finally:
        if sparsity is not None:
            module.sparsity = sparsity
        if device is not None and home is not None:
            module.to(home)
        for child, training in flags:
            child.training = training


def random_images(module: nn.Module, shape: tuple[int, int], *, batch: int = 1) -> Tensor:
    """Normalised noise that fits the first convolution of a module, on its device.

    It is always the same noise, and the global random generator is not touched. With a fixed number of kept
    units neither the image nor the weights change what there is to compute.

    Returns:
        Images ``[B, C, H, W]``.
    """
    convolutions = (child for child in module.modules() if isinstance(child, nn.Conv2d))
    channels = next((conv.in_channels for conv in convolutions), 3)
    parameter = next(module.parameters(), torch.empty(0))
    images = torch.randn(batch, channels, *shape, generator=torch.Generator().manual_seed(0))
    return images.to(device=parameter.device, dtype=parameter.dtype)
