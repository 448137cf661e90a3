"""Latency with its spread and its environment, candidates interleaved."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from .conditions import (
    autocast,
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
from .environment import Environment, check_fields
from .memory import measure_peak_memory

__all__ = ['LatencyRecord', 'measure_interleaved', 'measure_latency']

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LatencyRecord:
    """How long a call takes.

    Args:
        median: Seconds, the median over the rounds.
        q1: Seconds, the lower quartile over the rounds.
        q3: Seconds, the upper quartile over the rounds.
        runs: Rounds. Each gives one value, the median time of a call in it.
        warmup: Untimed calls before the first round; every round opens with another one.
        peak_memory: Bytes, see :func:`measure_peak_memory`; None where it cannot be had.
        environment: Where and how it was measured.
    """

    median: float
    q1: float
    q3: float
    runs: int
    warmup: int
    peak_memory: int | None
    environment: Environment

    @property
    def spread(self) -> float:
        """The distance of the quartiles as a fraction of the median."""
        return (self.q3 - self.q1) / self.median

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), 'environment': self.environment.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'LatencyRecord':
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: If a field is missing or unknown.
        """
        check_fields(cls, values)
        return cls(**{**values, 'environment': Environment.from_dict(values['environment'])})


def measure_interleaved(
    candidates: Mapping[str, Callable[[], object]],
    *,
    device: str | torch.device,
    environment: Environment,
    rounds: int = 10,
    min_round_time: float = 0.2,
    warmup: int = 2,
    prepare: Callable[[str], object] | None = None,
    progress: Progress | None = None,
) -> dict[str, LatencyRecord]:
    """Time several calls against each other: A, B, A, B, ... in one process.

    Whatever slows the machine for a while so meets all of them, and ratios can be trusted where the seconds
    cannot. In a round a candidate is called once untimed, then as often as fills the round; CUDA is synchronised
    before each reading of the clock.

    Args:
        candidates: What to call, by name.
        device: The device that the calls run on.
        environment: Recorded with the results; its number of threads is set for the length of the measurement.
        rounds: Values that median and quartiles are taken over.
        min_round_time: Seconds that the timed calls of a round last at least.
        warmup: Untimed calls of each candidate before the first round.
        prepare: Called untimed with a candidate's name before it is run, for example to set a sparsity.
        progress: Called with the rounds done and their number.

    Raises:
        ValueError: If there is nothing to call, or a number is out of range.
    """
    if not candidates:
        raise ValueError('candidates is empty: give at least one call to time.')
    check_schedule(rounds, min_round_time, warmup)
    device = check_device(device)
    prepare = prepare or (lambda name: None)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    with fixed_threads(environment.threads):
        memory = {}
        for name, call in candidates.items():
            prepare(name)
            for _ in range(warmup):
                call()
            memory[name] = measure_peak_memory(call, device)
        timers = {
            name: Timer(
                'call()',
                setup='prepare()',
                globals={'call': call, 'prepare': partial(prepare, name)},
                num_threads=environment.threads,
            )
            for name, call in candidates.items()
        }
        for done in range(1, rounds + 1):
            for name, timer in timers.items():
                times[name].append(timer.blocked_autorange(min_run_time=min_round_time).median)
            if progress is not None:
                progress(done, rounds)
    return {
        name: _record(values, warmup=warmup, peak_memory=memory[name], environment=environment)
        for name, values in times.items()
    }


def measure_latency(
    backbone: nn.Module,
    shape: tuple[int, int],
    *,
    batch: int = 1,
    dtype: str = 'float32',
    device: str | torch.device = 'cpu',
    sparsities: Sequence[float | Sequence[float]] | None = None,
    rounds: int = 10,
    min_round_time: float = 0.2,
    warmup: int = 2,
    threads: int | None = None,
    progress: Progress | None = None,
) -> LatencyRecord | list[LatencyRecord]:
    """Time the forward pass of a backbone in evaluation mode on noise.

    Args:
        backbone: One of ours, or with ``sparsities`` left out any module that takes images. It comes back with the
            sparsity, the device and the training flags that it had; its weights are never touched.
        shape: Height and width in pixels.
        batch: Images in one forward.
        dtype: ``float32``, or ``bfloat16`` and ``float16`` by autocast, the cast of the weights included.
        device: ``cpu`` or ``cuda``.
        sparsities: Time the backbone at each of these, interleaved.
        rounds: See :func:`measure_interleaved`.
        min_round_time: See :func:`measure_interleaved`.
        warmup: See :func:`measure_interleaved`.
        threads: Intra-op threads of torch; the present ones if not given.
        progress: See :func:`measure_interleaved`.

    Returns:
        One record, or with ``sparsities`` a list with one for each.

    Raises:
        ValueError: If an argument is out of range, the device is not there or does not know the dtype, the weights
            are not float32, or a sparsity does not fit the backbone.
    """
    shape = check_image_shape(shape, batch)
    device = check_device(device)
    dtype = check_dtype(dtype, device)
    check_float32(backbone)
    settings = None if sparsities is None else _normalized(backbone, sparsities)
    check_threads(threads)
    environment = Environment.current(device=str(device), dtype=dtype, batch=batch, shape=shape, threads=threads)

    def prepare(name: str) -> None:
        if settings is not None:
            backbone.sparsity = settings[int(name)]

    with measuring(backbone, device):
        call = forward_call(backbone, random_images(backbone, shape, batch=batch), dtype)
        records = measure_interleaved(
            {str(i): call for i in range(1 if settings is None else len(settings))},
            device=device,
            environment=environment,
            rounds=rounds,
            min_round_time=min_round_time,
            warmup=warmup,
            prepare=prepare,
            progress=progress,
        )
    return list(records.values()) if settings is not None else records['0']


def forward_call(module: nn.Module, images: Tensor, dtype: str) -> Callable[[], object]:
    """A call that runs a module on images ``[B, C, H, W]`` without gradients, in the arithmetic of ``dtype``."""

    def call() -> object:
        with torch.no_grad(), autocast(images.device, dtype):
            return module(images)

    return call


def _normalized(backbone: nn.Module, sparsities: Sequence[float | Sequence[float]]) -> list[tuple[float, ...]]:
    layout = getattr(backbone, 'sparsity_layout', None)
    if layout is None:
        raise ValueError(
            f'sparsities are given, but {type(backbone).__name__} has no sparsity to set. Make it sparse by '
            f'sparsevit_mm.sparsify, or leave sparsities out.'
        )
    if not sparsities:
        raise ValueError('sparsities is empty: give at least one, or leave it out for the present sparsity.')
    return [layout.normalize(sparsity) for sparsity in sparsities]


def _record(times: list[float], *, warmup: int, peak_memory: int | None, environment: Environment) -> LatencyRecord:
    q1, median, q3 = (float(value) for value in np.quantile(times, (0.25, 0.5, 0.75)))
    return LatencyRecord(median, q1, q3, len(times), warmup, peak_memory, environment)
