"""Stock and sparse models timed against each other in one process."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from .benchmark_report import BenchmarkReport, Row
from .conditions import (
    check_device,
    check_dtype,
    check_float32,
    check_image_shape,
    check_schedule,
    check_threads,
    measuring,
    random_images,
)
from .counter import count_executed_macs
from .environment import Environment
from .latency import Progress, forward_call, measure_interleaved
from .subjects import Subject
from .whole_model import whole_model_call, whole_model_scope

__all__ = ['run_benchmark']

BACKBONE_SCOPE = 'the backbone alone'


@dataclass(frozen=True)
class _Case:
    """One row to be: a model at a sparsity (None: the stock one)."""

    subject: Subject
    model: nn.Module
    backbone: nn.Module
    sparsity: tuple[float, ...] | None

    @property
    def name(self) -> str:
        at = 'stock' if self.sparsity is None else f'at sparsity {self.sparsity}'
        return f'{type(self.backbone).__name__} of {self.subject.config} ({at})'

    def prepare(self) -> None:
        if self.sparsity is not None:
            self.backbone.sparsity = self.sparsity


def run_benchmark(
    subjects: Sequence[Subject],
    shape: tuple[int, int],
    *,
    batch: int = 1,
    dtype: str = 'float32',
    device: str = 'cpu',
    rounds: int = 10,
    min_round_time: float = 0.2,
    warmup: int = 2,
    threads: int | None = None,
    progress: Progress | None = None,
) -> BenchmarkReport:
    """Time every subject, stock first and then ours at each of its sparsities, all interleaved.

    Whole models are timed with their backbones beside them in the same rounds.

    Args:
        subjects: Either all bare backbones or all whole models.
        shape: Height and width in pixels.
        batch: Images in one forward.
        dtype: ``float32``, or ``bfloat16`` and ``float16`` by autocast.
        device: ``cpu`` or ``cuda``.
        rounds: See :func:`measure_interleaved`.
        min_round_time: See :func:`measure_interleaved`.
        warmup: See :func:`measure_interleaved`.
        threads: Intra-op threads of torch; the present ones if not given.
        progress: See :func:`measure_interleaved`.

    Raises:
        ValueError: If an argument is out of range, or a model does not run under these conditions.
    """
    shape = check_image_shape(shape, batch)
    torch_device = check_device(device)
    dtype = check_dtype(dtype, torch_device)
    check_schedule(rounds, min_round_time, warmup)
    check_threads(threads)
    whole = {subject.whole_model for subject in subjects}
    if len(whole) != 1:
        raise ValueError('Give at least one subject, and either only backbones or only whole models.')
    environment = Environment.current(device=str(device), dtype=dtype, batch=batch, shape=shape, threads=threads)
    cases = dict(enumerate(_cases(subjects)))
    calls: dict[str, Callable[[], object]] = {}
    macs: dict[int, int] = {}
    with ExitStack() as stack:
        for module in {id(case.model): case.model for case in cases.values()}.values():
            check_float32(module)
            stack.enter_context(measuring(module, torch_device))
        for subject in subjects:
            stack.callback(setattr, subject.sparse, 'sparsity', subject.sparse.sparsity)
        for index, case in cases.items():
            images = random_images(case.backbone, shape, batch=batch)
            forward = forward_call(case.backbone, images, dtype)
            calls[f'{index}'] = whole_model_call(case.model, images, dtype) if whole == {True} else forward
            if whole == {True}:
                calls[f'{index}/backbone'] = forward
            macs[index] = _tried(case, partial(count_executed_macs, calls[f'{index}'])) // batch
        records = measure_interleaved(
            calls,
            device=torch_device,
            environment=environment,
            rounds=rounds,
            min_round_time=min_round_time,
            warmup=warmup,
            prepare=lambda name: cases[int(name.split('/')[0])].prepare(),
            progress=progress,
        )
    rows = tuple(
        Row(
            config=case.subject.config,
            model=type(case.backbone).__name__,
            sparsity=case.sparsity,
            macs=macs[index],
            latency=records[f'{index}'],
            backbone_latency=records.get(f'{index}/backbone'),
            architecture=_architectures(subjects)[case.subject.architecture],
        )
        for index, case in cases.items()
    )
    scope = whole_model_scope(subjects[0].model) if whole == {True} else BACKBONE_SCOPE
    return BenchmarkReport(scope=scope, environment=environment, rows=rows)


def _cases(subjects: Sequence[Subject]) -> Iterator[_Case]:
    seen = set()
    for subject in subjects:
        if subject.stock is not None and subject.architecture not in seen:
            yield _Case(subject, subject.stock_model, subject.stock, None)
        seen.add(subject.architecture)
        for sparsity in subject.sparsities:
            yield _Case(subject, subject.model, subject.sparse, sparsity)


def _architectures(subjects: Sequence[Subject]) -> dict[str, int]:
    names = dict.fromkeys(subject.architecture for subject in subjects)
    return {name: index for index, name in enumerate(names)}


def _tried(case: _Case, call: Callable[[], int]) -> int:
    """The first run of a case: what fails under these conditions fails here.

    Raises:
        ValueError: With what torch said.
    """
    case.prepare()
    try:
        return call()
    except torch.cuda.OutOfMemoryError as error:
        raise ValueError(
            f'{case.name} needs more memory than there is: use a smaller shape or batch. {error}'
        ) from error
    except RuntimeError as error:
        raise ValueError(
            f'{case.name} does not run at this shape, dtype and device: {str(error).splitlines()[0]} '
            f'Other conditions may do; with --whole-model left out only the backbone has to run.'
        ) from error
