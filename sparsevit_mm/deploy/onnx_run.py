"""Graphs run by ONNX Runtime."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..extras import require
from .onnx_export import make_onnx

if TYPE_CHECKING:
    import onnx

__all__ = ['OnnxBackbone', 'OnnxSession']


class OnnxSession:
    """A graph loaded by ONNX Runtime for the CPU; called like the module that it was made of.

    Args:
        model: The graph, or a file with it.
        threads: That an operator may use; torch's present number if not given.

    Raises:
        ValueError: If ONNX Runtime is missing or refuses the graph.
    """

    def __init__(self, model: 'onnx.ModelProto | str | Path', threads: int | None = None) -> None:
        require('onnxruntime')
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads() if threads is None else threads
        options.log_severity_level = 3
        content = str(model) if isinstance(model, str | Path) else model.SerializeToString()
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
        except Exception as error:  # ONNX Runtime has a type for each of its error codes
            raise ValueError(f'ONNX Runtime cannot load the graph: {str(error).splitlines()[0]}') from error
        self._input = self._session.get_inputs()[0]

    @property
    def output_names(self) -> list[str]:
        """Names of what :meth:`__call__` gives."""
        return [output.name for output in self._session.get_outputs()]

    @property
    def shape(self) -> tuple[int | str, ...]:
        """Of the images: numbers, and a name for what is free."""
        return tuple(self._input.shape)

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """``[B, 3, H, W]`` to the outputs of the graph.

        Raises:
            ValueError: If the images have another size than the graph.
        """
        wanted = self.shape
        if any(isinstance(want, int) and want != size for want, size in zip(wanted, images.shape)):
            raise ValueError(
                f'the graph takes images of shape {_shown(wanted)}, got {_shown(images.shape)}: resize and pad images '
                f'to that, or export another graph with --shape.'
            )
        found = self._session.run(None, {self._input.name: np.ascontiguousarray(images.numpy())})
        return tuple(map(torch.from_numpy, found))


class OnnxBackbone:
    """A backbone as ONNX Runtime runs it; exported at the first images, for their shape and its sparsity of then.

    Args:
        backbone: Ours or a stock one, on the CPU.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self._backbone = backbone
        self._session: OnnxSession | None = None

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """``[B, 3, H, W]`` to the maps of the backbone.

        Raises:
            ValueError: If it cannot be exported.
        """
        if self._session is None:
            self._session = OnnxSession(make_onnx(self._backbone, images))
        return self._session(images)


def _shown(shape: tuple[int | str, ...]) -> str:
    return 'x'.join(map(str, shape))
