"""What a whole model takes beside its backbone: a neck and heads, to which sparsity makes no difference."""

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..models import SparseBackbone
from .block_clock import BlockClock
from .conditions import (
    check_device,
    check_dtype,
    check_float32,
    check_image_shape,
    check_schedule,
    check_threads,
    fixed_threads,
    measuring,
    random_images,
)
from .latency import Progress, forward_call
from .whole_model import whole_model_call, whole_model_scope

__all__ = ['ModelRest', 'measure_model_rest']


@dataclass(frozen=True)
class ModelRest:
    """The time of a whole model less that of its backbone.

    Args:
        median: Seconds, the median of the differences within a round; 0 where it is below that.
        q1: Seconds, their lower quartile.
        q3: Seconds, their upper quartile.
        rounds: Differences that were taken.
        scope: What was run of the model, in words.
    """

    median: float
    q1: float
    q3: float
    rounds: int
    scope: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def measure_model_rest(
    model: nn.Module,
    backbone: SparseBackbone,
    shape: tuple[int, int],
    *,
    batch: int = 1,
    dtype: str = 'float32',
    device: str | torch.device = 'cpu',
    rounds: int = 10,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ModelRest:
    """Time a whole model and its backbone in turns, both dense, in evaluation mode on noise.

    A round gives the difference of two passes that follow each other, each after an untimed one; which of the two comes
    first alternates. So whatever slows the machine for a while meets both.

    Args:
        model: A detector, segmentor or monocular 3D detector, see :func:`whole_model_scope`. It comes back as it was.
        backbone: The sparse backbone in it.
        shape: Height and width in pixels.
        batch: Images in one forward.
        dtype: ``float32``, or ``bfloat16`` and ``float16`` by autocast.
        device: ``cpu`` or ``cuda``.
        rounds: Differences to take.
        threads: Intra-op threads of torch; the present ones if not given.
        progress: Called with the rounds done and their number.

    Raises:
        ValueError: If an argument is out of range, or the model is of no family that we know or does not run like this.
    """
    shape = check_image_shape(shape, batch)
    device = check_device(device)
    dtype = check_dtype(dtype, device)
    check_schedule(rounds, 0.0)
    check_threads(threads)
    check_float32(model)
    scope = whole_model_scope(model)
    differences = np.zeros(rounds)
    with ExitStack() as stack:
        stack.callback(setattr, backbone, 'sparsity', backbone.sparsity)
        stack.enter_context(measuring(model, device))
        stack.enter_context(fixed_threads(torch.get_num_threads() if threads is None else threads))
        backbone.sparsity = 0.0
        images = random_images(backbone, shape, batch=batch)
        calls = [forward_call(backbone, images, dtype), whole_model_call(model, images, dtype)]
        clock = BlockClock(backbone, device)
        for done in range(rounds):
            seconds = {}
            for index in (0, 1) if done % 2 == 0 else (1, 0):
                try:
                    calls[index]()
                except RuntimeError as error:
                    raise _unable(model, error) from error
                seconds[index] = clock.time(calls[index])
            differences[done] = seconds[1] - seconds[0]
            if progress is not None:
                progress(done + 1, rounds)
    q1, median, q3 = (max(0.0, float(value)) for value in np.quantile(differences, (0.25, 0.5, 0.75)))
    return ModelRest(median, q1, q3, int(rounds), scope)


def _unable(model: nn.Module, error: RuntimeError) -> ValueError:
    return ValueError(
        f'{type(model).__name__} does not run whole at this shape, batch, dtype and device: '
        f'{str(error).splitlines()[0]} Take other conditions, or time the backbone alone.'
    )
