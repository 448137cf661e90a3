"""Stock and sparse models timed against each other in one process."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from .benchmark_case import Plan, Trial, batches_of, cases_of, prepare
from .benchmark_report import BenchmarkReport, Row
from .conditions import (
    check_device,
    check_dtype,
    check_float32,
    check_image_shape,
    check_schedule,
    check_threads,
    fixed_threads,
    measuring,
)
from .environment import Environment
from .latency import LatencyRecord, Progress, measure_interleaved
from .modes import ONNXRUNTIME, check_modes, many_compilations
from .subjects import Subject
from .training_step import TRAINING_SCOPE, measuring_training
from .whole_model import whole_model_scope

__all__ = ['check_together', 'run_benchmark']

BACKBONE_SCOPE = 'the backbone alone'


def run_benchmark(
    subjects: Sequence[Subject],
    shape: tuple[int, int],
    *,
    batch: int = 1,
    dtype: str = 'float32',
    device: str = 'cpu',
    modes: Sequence[str] = ('eager',),
    training: bool = False,
    roof: bool = False,
    rounds: int = 10,
    min_round_time: float = 0.2,
    warmup: int = 2,
    threads: int | None = None,
    progress: Progress | None = None,
    images: Sequence[Path] | None = None,
) -> BenchmarkReport:
    """Time every subject, stock first and then ours at each of its sparsities, all interleaved.

    Whole models are timed with their backbones beside them in the same rounds. A row that does not run says why in the
    report, and the others are timed.

    Args:
        subjects: Either all bare backbones or all whole models.
        shape: Height and width in pixels.
        batch: Images in one forward.
        dtype: ``float32``, or ``bfloat16`` and ``float16`` by autocast.
        device: ``cpu`` or ``cuda``.
        modes: How backbones are run, see :func:`in_mode`; each row is there once for each.
        training: Time a training step instead of a forward, see :func:`training_call`.
        roof: Time the matrix products of our rows alone too, see :func:`roof_call`.
        rounds: See :func:`measure_interleaved`.
        min_round_time: See :func:`measure_interleaved`.
        warmup: See :func:`measure_interleaved`.
        threads: Intra-op threads of torch; the present ones if not given.
        progress: See :func:`measure_interleaved`.
        images: Image files to run instead of noise. A call then runs all of them, and figures are those of a batch.

    Raises:
        ValueError: If an argument is out of range, arguments do not go together, no row runs, or what a model computes
            depends on weights and images and these are not given.
    """
    shape = check_image_shape(shape, batch)
    torch_device = check_device(device)
    dtype = check_dtype(dtype, torch_device)
    modes = check_modes(modes, torch_device)
    check_schedule(rounds, min_round_time, warmup)
    check_threads(threads)
    whole = {subject.whole_model for subject in subjects}
    if len(whole) != 1:
        raise ValueError('Give at least one subject, and either only backbones or only whole models.')
    plan = Plan(shape, batch, dtype, torch_device, whole == {True}, training, roof, images)
    check_together(modes, dtype=dtype, whole_model=plan.whole_model, training=training, roof=roof)
    _check_adaptive(subjects, images)
    environment = Environment.current(device=str(device), dtype=dtype, batch=batch, shape=shape, threads=threads)
    with ExitStack() as stack:
        stack.enter_context(_ready(subjects, plan))
        if 'compiled' in modes:
            stack.enter_context(many_compilations())
        # What ours does at once, and what a compiler makes, depends on the number of threads.
        stack.enter_context(fixed_threads(environment.threads))
        batches = {id(subject): batches_of(subject, plan) for subject in subjects}
        trials = [prepare(case, plan, batches[id(case.subject)]) for case in cases_of(subjects, modes)]
        records = measure_interleaved(
            _calls(trials),
            device=torch_device,
            environment=environment,
            rounds=rounds,
            min_round_time=min_round_time,
            warmup=warmup,
            prepare=lambda name: trials[int(name.split('/')[0])].case.prepare(),
            progress=progress,
        )
    records = {name: _of_batch(record, plan.batches) for name, record in records.items()}
    architectures = list(dict.fromkeys(subject.architecture for subject in subjects))
    return BenchmarkReport(
        scope=_scope(subjects, plan),
        environment=environment,
        rows=tuple(_row(index, trial, records, architectures) for index, trial in enumerate(trials)),
        images=0 if images is None else plan.batches * batch,
        training=training,
        remarks=tuple(dict.fromkeys(subject.remark for subject in subjects if subject.remark)),
    )


def check_together(
    modes: Sequence[str],
    *,
    dtype: str = 'float32',
    whole_model: bool = False,
    training: bool = False,
    roof: bool = False,
) -> None:
    """What cannot be had at once.

    Raises:
        ValueError: With what to leave out.
    """
    if ONNXRUNTIME in modes and (training or dtype != 'float32'):
        asked = '--train' if training else f'--dtype {dtype}'
        raise ValueError(f'backend {ONNXRUNTIME} runs a forward in float32: leave out {asked}.')
    if whole_model and (training or roof or ONNXRUNTIME in modes):
        asked = '--train' if training else '--roof' if roof else f'--backend {ONNXRUNTIME}'
        raise ValueError(f'{asked} is for the backbone alone: leave out --whole-model.')
    if training and roof:
        raise ValueError('--roof is of a forward: leave it out with --train.')
    if training and 'graphs' in modes:
        raise ValueError("mode 'graphs' captures a forward: leave it out with --train.")


def _check_adaptive(subjects: Sequence[Subject], images: Sequence[Path] | None) -> None:
    for subject in subjects:
        if subject.sparse.counts == 'adaptive' and (images is None or not subject.trained):
            raise ValueError(
                f"{subject.config} has counts='adaptive': how much is computed depends on trained weights and on the "
                f'image. Give --checkpoint and --images, or time it with --cfg-options model.backbone.counts=fixed.'
            )


@contextmanager
def _ready(subjects: Sequence[Subject], plan: Plan) -> Iterator[None]:
    """Models on the device and in the mode they are to be timed in; afterwards as they were."""
    models = [model for subject in subjects for model in (subject.stock_model, subject.model) if model is not None]
    with ExitStack() as stack:
        for subject in subjects:
            stack.callback(setattr, subject.sparse, 'sparsity', subject.sparse.sparsity)
        for model in {id(model): model for model in models}.values():
            check_float32(model)
            stack.enter_context((measuring_training if plan.training else measuring)(model, plan.device))
        yield


def _calls(trials: Sequence[Trial]) -> dict:
    """What to time, by the number of the row and what of it.

    Raises:
        ValueError: If no row runs.
    """
    calls = {f'{index}/{what}': call for index, trial in enumerate(trials) for what, call in trial.calls.items()}
    if not calls:
        first = trials[0]
        raise ValueError(f'{first.case.name} {first.failure}') from first.cause
    return calls


def _row(index: int, trial: Trial, records: dict[str, LatencyRecord], architectures: Sequence[str]) -> Row:
    case, latency = trial.case, records.get(f'{index}/')
    if latency is not None and case.mode == ONNXRUNTIME:
        latency = replace(latency, peak_memory=None)  # which is seen of torch alone
    return Row(
        config=case.subject.config,
        model=type(case.backbone).__name__,
        sparsity=case.sparsity,
        macs=trial.macs,
        latency=latency,
        backbone_latency=records.get(f'{index}/backbone'),
        architecture=architectures.index(case.subject.architecture),
        kept=trial.kept,
        mode=case.mode,
        compile_seconds=trial.compile_seconds,
        roof=records.get(f'{index}/roof'),
        roof_share=trial.roof_share,
        error=trial.failure,
    )


def _scope(subjects: Sequence[Subject], plan: Plan) -> str:
    if plan.training:
        return TRAINING_SCOPE
    return whole_model_scope(subjects[0].model) if plan.whole_model else BACKBONE_SCOPE


def _of_batch(record: LatencyRecord, number: int) -> LatencyRecord:
    """What a batch takes, from what so many took."""
    return replace(record, median=record.median / number, q1=record.q1 / number, q3=record.q3 / number)
