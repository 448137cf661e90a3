"""Stock and sparse models timed against each other in one process."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

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
from .images import load_batches
from .latency import LatencyRecord, Progress, forward_call, measure_interleaved
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
    images: Sequence[Path] | None = None,
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
        images: Image files to run instead of noise. A call then runs all of them, and figures are those of a batch.

    Raises:
        ValueError: If an argument is out of range, a model does not run under these conditions, or what it computes
            depends on weights and images and these are not given.
    """
    shape = check_image_shape(shape, batch)
    torch_device = check_device(device)
    dtype = check_dtype(dtype, torch_device)
    check_schedule(rounds, min_round_time, warmup)
    check_threads(threads)
    whole = {subject.whole_model for subject in subjects}
    if len(whole) != 1:
        raise ValueError('Give at least one subject, and either only backbones or only whole models.')
    _check_adaptive(subjects, images)
    environment = Environment.current(device=str(device), dtype=dtype, batch=batch, shape=shape, threads=threads)
    cases = dict(enumerate(_cases(subjects)))
    calls: dict[str, Callable[[], object]] = {}
    macs: dict[int, int] = {}
    kept: dict[int, dict[str, float]] = {}
    number = 1 if images is None else len(images) // batch
    with ExitStack() as stack:
        for module in {id(case.model): case.model for case in cases.values()}.values():
            check_float32(module)
            stack.enter_context(measuring(module, torch_device))
        for subject in subjects:
            stack.callback(setattr, subject.sparse, 'sparsity', subject.sparse.sparsity)
        for index, case in cases.items():
            batches = [random_images(case.backbone, shape, batch=batch)]
            if images is not None:
                loaded = load_batches(images, shape, batch, case.subject.preprocessor)
                batches = [images.to(batches[0].device) for images in loaded]
            forward = _each(forward_call, case.backbone, batches, dtype)
            calls[f'{index}'] = _each(whole_model_call, case.model, batches, dtype) if whole == {True} else forward
            if whole == {True}:
                calls[f'{index}/backbone'] = forward
            macs[index] = _tried(case, partial(count_executed_macs, calls[f'{index}'])) // (batch * number)
            kept[index] = _kept(case, batches, dtype)
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
    records = {name: _of_batch(record, number) for name, record in records.items()}
    rows = tuple(
        Row(
            config=case.subject.config,
            model=type(case.backbone).__name__,
            sparsity=case.sparsity,
            macs=macs[index],
            latency=records[f'{index}'],
            backbone_latency=records.get(f'{index}/backbone'),
            architecture=_architectures(subjects)[case.subject.architecture],
            kept=kept[index],
        )
        for index, case in cases.items()
    )
    scope = whole_model_scope(subjects[0].model) if whole == {True} else BACKBONE_SCOPE
    return BenchmarkReport(
        scope=scope, environment=environment, rows=rows, images=0 if images is None else number * batch
    )


def _check_adaptive(subjects: Sequence[Subject], images: Sequence[Path] | None) -> None:
    for subject in subjects:
        if subject.sparse.counts == 'adaptive' and (images is None or not subject.trained):
            raise ValueError(
                f"{subject.config} has counts='adaptive': how much is computed depends on trained weights and on the "
                f'image. Give --checkpoint and --images, or time it with --cfg-options model.backbone.counts=fixed.'
            )


def _each(
    call_of: Callable[[nn.Module, Tensor, str], Callable[[], object]],
    module: nn.Module,
    batches: Sequence[Tensor],
    dtype: str,
) -> Callable[[], object]:
    """A call that runs a module on every batch."""
    calls = [call_of(module, images, dtype) for images in batches]
    if len(calls) == 1:
        return calls[0]

    def call() -> None:
        for each in calls:
            each()

    return call


def _of_batch(record: LatencyRecord, number: int) -> LatencyRecord:
    """What a batch takes, from what so many took."""
    return replace(record, median=record.median / number, q1=record.q1 / number, q3=record.q3 / number)


def _kept(case: _Case, batches: Sequence[Tensor], dtype: str) -> dict[str, float]:
    """Mean fraction of its units that each site keeps, where images have counts of their own."""
    if case.sparsity is None or case.backbone.counts != 'adaptive':
        return {}
    case.prepare()
    shares: dict[str, list[Tensor]] = {}
    for images in batches:
        with case.backbone.record_selections() as records:
            forward_call(case.backbone, images, dtype)()
        for record in records:
            shares.setdefault(record.site, []).append(record.counts / record.num_units)
    return {site: float(torch.cat(parts).mean()) for site, parts in shares.items()}


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
