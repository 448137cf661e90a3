"""One row of a benchmark before it is timed: what to call, what it computes, and why it may not run."""

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from .conditions import random_images
from .counter import count_executed_macs
from .images import load_batches
from .latency import forward_call
from .memory import is_out_of_memory
from .modes import ONNXRUNTIME, in_mode
from .roof import record_products, roof_call
from .subjects import Subject
from .training_step import training_call
from .whole_model import running_as, whole_model_call

__all__ = ['Case', 'Plan', 'Trial', 'batches_of', 'cases_of', 'prepare']

LONGEST_REASON = 400
HOW = {
    'eager': 'at this shape, dtype and device',
    'compiled': 'compiled, though it does in mode eager',
    'graphs': 'as CUDA graphs, though it does in mode eager',
    ONNXRUNTIME: 'by ONNX Runtime, though it does by torch',
}


@dataclass(frozen=True)
class Plan:
    """What all rows of a benchmark have in common.

    Args:
        shape: Height and width in pixels.
        batch: Images in one forward.
        dtype: Of the arithmetic.
        device: Where models and images are.
        whole_model: Whether models are timed, with their backbones beside them.
        training: Whether a call is a training step.
        roof: Whether to time the matrix products of ours alone too.
        images: Files to run instead of noise.
    """

    shape: tuple[int, int]
    batch: int
    dtype: str
    device: torch.device
    whole_model: bool = False
    training: bool = False
    roof: bool = False
    images: Sequence[Path] | None = None

    @property
    def batches(self) -> int:
        """How many of them a call runs."""
        return 1 if self.images is None else len(self.images) // self.batch


@dataclass(frozen=True)
class Case:
    """A model at a sparsity (None: the stock one) in a mode."""

    subject: Subject
    model: nn.Module
    backbone: nn.Module
    sparsity: tuple[float, ...] | None
    mode: str = 'eager'

    @property
    def name(self) -> str:
        """For people."""
        at = 'stock' if self.sparsity is None else f'at sparsity {self.sparsity}'
        return f'{type(self.backbone).__name__} of {self.subject.config} ({at})'

    def prepare(self) -> None:
        """Put the backbone at the sparsity."""
        if self.sparsity is not None:
            self.backbone.sparsity = self.sparsity


@dataclass(frozen=True)
class Trial:
    """A case that was run once.

    Args:
        case: The case.
        calls: What to time: the whole under ``''``, and ``backbone`` and ``roof`` where they are wanted. None where
            the case does not run.
        macs: Of one image.
        kept: Mean fraction of its units that each site keeps, where images have counts of their own.
        compile_seconds: Of the first call in a mode that has to make something ready.
        roof_share: Fraction of the MACs that are products of the roof.
        failure: Why it does not run, as the end of a sentence that starts with its name.
        cause: What was raised.
    """

    case: Case
    calls: dict[str, Callable[[], object]] = field(default_factory=dict)
    macs: int | None = None
    kept: dict[str, float] = field(default_factory=dict)
    compile_seconds: float | None = None
    roof_share: float | None = None
    failure: str | None = None
    cause: Exception | None = None


def cases_of(subjects: Sequence[Subject], modes: Sequence[str]) -> Iterator[Case]:
    """The rows in their order: each architecture's stock model before ours of it."""
    seen = set()
    for subject in subjects:
        if subject.stock is not None and subject.architecture not in seen:
            for mode in modes:
                yield Case(subject, subject.stock_model, subject.stock, None, mode)
        seen.add(subject.architecture)
        for mode in modes:
            for sparsity in subject.sparsities:
                yield Case(subject, subject.model, subject.sparse, sparsity, mode)


def batches_of(subject: Subject, plan: Plan) -> list[Tensor]:
    """What its models are run on, ``[B, C, H, W]`` each: noise, or images.

    Raises:
        ValueError: If images cannot be read, or are too few.
    """
    if plan.images is None:
        return [random_images(subject.sparse, plan.shape, batch=plan.batch)]
    loaded = load_batches(plan.images, plan.shape, plan.batch, subject.preprocessor)
    return [images.to(plan.device) for images in loaded]


def prepare(case: Case, plan: Plan, batches: Sequence[Tensor]) -> Trial:
    """Run a case once, and count what it computes; models are on their device already."""
    case.prepare()
    trial, how = Trial(case), HOW['eager']
    try:
        trial = _counted(case, plan, batches)
        how = HOW[case.mode]
        trial = _run(trial, plan, batches)
    except Exception as error:  # whatever a model raises ends its own row and no other
        traceback.clear_frames(error.__traceback__)  # which hold on to the memory that there was too little of
        trial = replace(trial, calls={}, failure=_reason(error, how, plan), cause=error)
    return trial


def _counted(case: Case, plan: Plan, batches: Sequence[Tensor]) -> Trial:
    """The case run as it is, under counters."""
    eager = _each(_call_of(plan), case.model, batches, plan.dtype)
    macs = count_executed_macs(eager) // (plan.batch * plan.batches)
    trial = Trial(case, {'': eager}, macs, _kept(case, batches, plan.dtype))
    if plan.whole_model:
        trial.calls['backbone'] = _each(forward_call, case.backbone, batches, plan.dtype)
    if plan.roof and case.sparsity is not None:
        products = record_products(eager)
        trial.calls['roof'] = roof_call(products, plan.device)
        share = sum(product.macs for product in products) / (macs * plan.batch * plan.batches)
        trial = replace(trial, roof_share=share)
    return trial


def _run(trial: Trial, plan: Plan, batches: Sequence[Tensor]) -> Trial:
    """The case run in its mode, as it will be timed."""
    case, calls = trial.case, dict(trial.calls)
    if case.mode == 'eager':
        calls['']()
        return trial
    module = in_mode(case.backbone, case.mode, ours=case.sparsity is not None)
    if plan.whole_model:
        calls['backbone'] = _each(forward_call, module, batches, plan.dtype)
        calls[''] = _with_backbone(case, module, calls[''])
    else:
        calls[''] = _each(_call_of(plan), module, batches, plan.dtype)
    start = time.perf_counter()
    calls['']()
    if plan.device.type == 'cuda':
        torch.cuda.synchronize(plan.device)
    return replace(trial, calls=calls, compile_seconds=time.perf_counter() - start)


def _with_backbone(case: Case, module: Callable, call: Callable[[], object]) -> Callable[[], object]:
    """A call of the whole model with the backbone in another form."""

    def running() -> object:
        with running_as(case.model, case.backbone, module):
            return call()

    return running


def _call_of(plan: Plan) -> Callable[[Callable, Tensor, str], Callable[[], object]]:
    return training_call if plan.training else whole_model_call if plan.whole_model else forward_call


def _each(
    call_of: Callable[[Callable, Tensor, str], Callable[[], object]],
    module: Callable,
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


def _kept(case: Case, batches: Sequence[Tensor], dtype: str) -> dict[str, float]:
    """Mean fraction of its units that each site keeps, where images have counts of their own."""
    if case.sparsity is None or case.backbone.counts != 'adaptive':
        return {}
    shares: dict[str, list[Tensor]] = {}
    for images in batches:
        with case.backbone.record_selections() as records:
            forward_call(case.backbone, images, dtype)()
        for record in records:
            shares.setdefault(record.site, []).append(record.counts / record.num_units)
    return {site: float(torch.cat(parts).mean()) for site, parts in shares.items()}


def _reason(error: Exception, how: str, plan: Plan) -> str:
    """In one line."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), '')[:LONGEST_REASON]
    if is_out_of_memory(error):
        return f'needs more memory than there is: use a smaller shape or batch. {said}'
    kind = '' if type(error) in (RuntimeError, NotImplementedError, ValueError) else f'{type(error).__name__}: '
    said = kind + (said or type(error).__name__)
    hint = ' Other conditions may do; with --whole-model left out only the backbone has to run.'
    return f'does not run {how}: {said.removesuffix(".")}.{hint if plan.whole_model else ""}'
