"""ONNX files whose graphs gather, compute and scatter what is kept, in standard operators."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..compat import has_dynamo_onnx_exporter
from ..extras import require
from ..files import written_whole

if TYPE_CHECKING:
    import onnx

__all__ = ['DEFAULT_OPSET', 'OPSETS', 'check_opset', 'drop_outputs', 'make_onnx', 'map_names', 'save_onnx']

OPSETS = range(18, 24)
DEFAULT_OPSET = 18
# A protobuf cannot be larger than 2 GiB; weights then go into a file beside it.
MOST_BYTES = 1 << 31
STANDARD_DOMAINS = ('', 'ai.onnx')


def check_opset(opset: int) -> int:
    """The opset, if graphs can be made in it.

    Raises:
        ValueError: If not.
    """
    if opset not in OPSETS:
        raise ValueError(
            f'opset must be from {OPSETS[0]} to {OPSETS[-1]}, the versions that the exporter makes, got {opset}.'
        )
    return opset


def make_onnx(
    module: nn.Module,
    images: Tensor,
    output_names: Sequence[str] | None = None,
    *,
    opset: int = DEFAULT_OPSET,
    dynamic_batch: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> 'onnx.ModelProto':
    """The graph of a module at its present sparsity.

    Args:
        module: Takes images and gives a tensor or a tuple of tensors. It comes back as it was.
        images: ``[B, 3, H, W]`` of the size that the graph is for.
        output_names: A name for each tensor; ``map0``, ``map1`` and so on if not given.
        opset: Version of ONNX's standard operators.
        dynamic_batch: Whether the graph takes any number of images; height and width are always fixed.
        metadata: What to note in the file, as text.

    Raises:
        ValueError: If the exporter is missing, the opset is not one of ``OPSETS``, or the module cannot be
            exported.
    """
    check_opset(opset)
    require('onnx', 'onnxscript')
    if not has_dynamo_onnx_exporter():
        raise ValueError(
            f'exporting to ONNX needs torch 2.6 or later, whose exporter keeps writes into maps; this is torch '
            f'{torch.__version__}.'
        )
    if dynamic_batch and len(images) == 1:
        images = torch.cat([images, images.flip(3)])  # a batch of 1 would be taken for a constant
    shapes = {0: torch.export.Dim('batch', min=1, max=1024)} if dynamic_batch else None
    with _evaluating(module), torch.no_grad(), _quiet():
        if output_names is None:
            output_names = map_names(module(images))
        try:
            program = torch.onnx.export(
                module,
                (images,),
                input_names=['images'],
                output_names=list(output_names),
                opset_version=opset,
                dynamic_shapes=(shapes,),
                dynamo=True,
                custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
                external_data=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise ValueError(f'{type(module).__name__} cannot be exported to ONNX: {_last_line(error)}') from error
    model = program.model_proto
    _check_graph(model, opset)
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, str(value)
    return model


def map_names(maps: Sequence[Tensor]) -> list[str]:
    """What maps are called in a graph."""
    return [f'map{i}' for i in range(len(maps))]


def drop_outputs(model: 'onnx.ModelProto', names: Sequence[str]) -> None:
    """Takes outputs out of a graph; nodes that were there for them alone do no harm, runtimes skip them."""
    kept = [output for output in model.graph.output if output.name not in names]
    del model.graph.output[:]
    model.graph.output.extend(kept)


def save_onnx(model: 'onnx.ModelProto', path: Path) -> None:
    """Writes a graph, in one step, so that no file is left half-written.

    Weights of 2 GiB and more go into ``<name>.data`` beside it.

    Raises:
        OSError: If it cannot be written.
    """
    import onnx

    path.parent.mkdir(parents=True, exist_ok=True)
    if model.ByteSize() >= MOST_BYTES:
        onnx.save(model, path, save_as_external_data=True, location=f'{path.name}.data')
        return
    with written_whole(path) as unfinished:
        unfinished.write_bytes(model.SerializeToString())


def _check_graph(model: 'onnx.ModelProto', opset: int) -> None:
    """Whether a graph is what was asked for.

    Raises:
        ValueError: If it is of another opset, or has operators that are none of the standard.
    """
    own = [entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS]
    if own != [opset]:
        raise ValueError(f'opset {opset} is asked for, but the exporter could only make opset {own}: ask for that one.')
    foreign = sorted({node.op_type for node in model.graph.node if node.domain not in STANDARD_DOMAINS})
    if foreign or model.functions:
        raise ValueError(
            f'the graph has operators that are not standard: {", ".join(foreign) or "functions of its own"}. Export '
            f"less of the model, such as its 'backbone'."
        )


def _stable_sort(self: Any, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """What ``aten.sort.stable`` is in ONNX: of equal values TopK too has that with the lower index first."""
    from onnxscript import opset18 as op

    return op.TopK(self, op.Gather(op.Shape(self), [dim]), axis=dim, largest=int(descending), sorted=1)


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """A module in evaluation mode for a while; its parts may be in different ones."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says about its own work."""
    loggers = [logging.getLogger(name) for name in ('torch.onnx', 'onnxscript', 'onnx_ir')]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)


def _last_line(error: BaseException) -> str:
    """What went wrong at first, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
