"""Backbones as CUDA graphs: at small batches a GPU waits for Python to launch kernels, a graph launches them at once.

A graph is what one pass did, to be replayed: with the same shapes, in the same memory. So there is one for each shape
and each setting of the sparsity, and content only may change: images, weights, and which units stay.
"""

import threading
from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .compat import autocast_dtype
from .models import SparseBackbone, find_sparse_backbone
from .ops import has_hooks, is_observed, keep_cached_values

__all__ = ['CUDAGraphed', 'GraphKey', 'use_cuda_graphs']

# Passes before a capture: libraries choose their kernels in the first ones.
WARM_UP = 3


@dataclass(frozen=True)
class GraphKey:
    """What a graph holds for.

    Args:
        shape: Of the images.
        dtype: Likewise.
        device: Likewise.
        autocast: The dtype of autocast, ``None`` where it is off.
        sparsity: Of the backbone, ``None`` for a module that has none.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    autocast: torch.dtype | None
    sparsity: tuple[float, ...] | None

    @classmethod
    def of(cls, backbone: nn.Module, x: Tensor) -> 'GraphKey':
        """The key of a pass at this moment."""
        sparsity = getattr(backbone, 'sparsity', None)
        return cls(tuple(x.shape), x.dtype, x.device, autocast_dtype(x.device.type), sparsity)


@dataclass(frozen=True, eq=False)
class _Captured:
    """A graph with the memory that it reads and writes.

    Args:
        graph: The graph.
        x: Where it reads the images.
        outs: Where it writes what the backbone returns.
        held: Index tables that it reads and a cache might forget.
    """

    graph: 'torch.cuda.CUDAGraph'
    x: Tensor
    outs: Any
    held: list[object]


class CUDAGraphed:
    """A backbone that captures what it does in evaluation on a GPU as CUDA graphs, and replays them.

    It is called as the ``forward`` of the backbone. Images are copied into the memory that a graph reads, and what it
    gives is a copy of what the graph wrote, since the next replay writes there again. Weights may change in place, as
    optimizers, ``load_state_dict`` and averaging hooks change them; where they have moved to other memory, graphs are
    captured anew.

    The backbone itself runs wherever a replay would not do the same: in training mode, with gradients, on a CPU, in a
    trace, under a dispatch mode, within another capture, and while selections are recorded or layers have hooks.

    Args:
        backbone: A backbone of fixed counts, or another module that maps one tensor to tensors.
        max_graphs: How many graphs are kept, those used last. Each holds the outputs for its shape and sparsity; they
            share the memory in between.

    Raises:
        ValueError: If what the backbone computes depends on the content of images in number, or ``max_graphs`` is not
            positive.
    """

    def __init__(self, backbone: nn.Module, max_graphs: int = 8) -> None:
        if isinstance(max_graphs, bool) or not isinstance(max_graphs, int) or max_graphs < 1:
            raise ValueError(f'max_graphs must be a positive int, the CUDA graphs that are kept, got {max_graphs!r}.')
        check_capturable(backbone)
        self.backbone, self.max_graphs = backbone, max_graphs
        self._graphs: OrderedDict[GraphKey, _Captured] = OrderedDict()
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Drops all graphs, for instance after a global switch of torch, such as that of TF32, was turned."""
        with self._lock:
            for device in {captured.x.device for captured in self._graphs.values()}:
                torch.cuda.synchronize(device)  # a replay may be under way
            self._graphs.clear()
            self._addresses: list[int] = []
            self._pool: tuple[int, int] | None = None
            self._done: torch.cuda.Event | None = None

    def __len__(self) -> int:
        """Graphs that are kept."""
        return len(self._graphs)

    def __call__(self, x: Tensor) -> Any:
        """What the backbone returns for images ``[B, 3, H, W]``."""
        if not self.replays(x):
            return self._plain(x)
        addresses = _addresses(self.backbone)
        if addresses is None:
            return self._plain(x)
        with self._lock, torch.cuda.device(x.device), torch.no_grad():
            if addresses != self._addresses:
                self.reset()
                self._addresses = addresses
            return self._replay(GraphKey.of(self.backbone, x), x)

    def replays(self, x: Tensor) -> bool:
        """Whether a pass of these images, now, is one for a graph, as far as layers have no hooks."""
        backbone = self.backbone
        if backbone.training or torch.is_grad_enabled() or is_observed():
            return False
        if type(x) is not Tensor or x.device.type != 'cuda' or getattr(backbone, '_records', None) is not None:
            return False
        return not torch.cuda.is_current_stream_capturing()

    def _plain(self, x: Tensor) -> Any:
        return type(self.backbone).forward(self.backbone, x)

    def _replay(self, key: GraphKey, x: Tensor) -> Any:
        if self._done is not None:
            self._done.wait()  # the last replay may have been on another stream
        if (captured := self._graphs.get(key)) is None:
            captured = self._graphs[key] = self._capture(key, x)
            if len(self._graphs) > self.max_graphs:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        if isinstance(self.backbone, SparseBackbone):
            self.backbone.forget_last_pass()
        captured.x.copy_(x)
        captured.graph.replay()
        outs = _copied(captured.outs)
        self._done = self._done or torch.cuda.Event()
        self._done.record()
        return outs

    def _capture(self, key: GraphKey, x: Tensor) -> _Captured:
        check_capturable(self.backbone)
        try:
            return self._captured(key, x)
        except RuntimeError as error:
            raise RuntimeError(
                f'{type(self.backbone).__name__} cannot be captured as a CUDA graph for {key}: {error}. Run it without '
                f'graphs, use_cuda_graphs(model, False); a layer or selector of your own must not wait for the device.'
            ) from error

    def _captured(self, key: GraphKey, x: Tensor) -> _Captured:
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        precision = nullcontext()
        if key.autocast is not None:
            # Without its cache: weights that autocast has converted before the capture would be gone after it.
            precision = torch.autocast('cuda', dtype=key.autocast, cache_enabled=False)
        # Without inference mode: its tensors could not be written to outside of it.
        with torch.inference_mode(False), torch.no_grad(), precision, keep_cached_values() as held:
            own = torch.empty_like(x).copy_(x)
            stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    self._plain(own)
            current.wait_stream(stream)
            held.clear()
            graph = torch.cuda.CUDAGraph()
            # Other threads, such as those that pin memory for data loaders, may go on meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode='thread_local'):
                outs = self._plain(own)
        return _Captured(graph, own, outs, held)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and files get no graphs: they belong to the memory of one process."""
        return dict(backbone=self.backbone, max_graphs=self.max_graphs)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.backbone, self.max_graphs = state['backbone'], state['max_graphs']
        self._graphs, self._lock = OrderedDict(), threading.RLock()
        self.reset()


def use_cuda_graphs(model: nn.Module, enabled: bool = True, *, max_graphs: int = 8) -> nn.Module:
    """Lets the sparse backbone of a built model run as CUDA graphs in evaluation, or no longer.

    Nothing else changes: keys of the state dict, training and evaluation on a CPU are as they were.

    Args:
        model: A detector, segmentor or mono-3D model, as ``init_detector`` or ``init_model`` return it, or a backbone.
        enabled: ``False`` takes it back.
        max_graphs: See :class:`CUDAGraphed`.

    Returns:
        The model.

    Raises:
        ValueError: If the model has no sparse backbone, or one that cannot be captured.
    """
    backbone = find_sparse_backbone(model)
    other = vars(backbone).get('forward')
    if other is not None and not isinstance(other, CUDAGraphed):
        raise ValueError(
            f'forward of the {type(backbone).__name__} has been replaced by {other!r}: take that back first, a graph '
            f'would pass it by.'
        )
    if enabled:
        backbone.forward = CUDAGraphed(backbone, max_graphs)
    else:
        vars(backbone).pop('forward', None)
    return model


def check_capturable(backbone: nn.Module) -> None:
    """Looks whether a backbone always does the same for a shape.

    Raises:
        ValueError: If not.
    """
    name = type(backbone).__name__
    if getattr(backbone, 'counts', 'fixed') == 'adaptive':
        raise ValueError(
            f"{name} has counts='adaptive': how much it computes depends on the content of images, and a CUDA graph "
            f"does always the same. Build it with counts='fixed', or run it without graphs."
        )
    if getattr(backbone, 'chunk_rows', None) is not None:
        raise ValueError(
            f'{name} has chunk_rows={backbone.chunk_rows}: sizes of its parts depend on the windows that stay, and a '
            f'CUDA graph does always the same. Set chunk_rows=None, or run it without graphs.'
        )


def _addresses(backbone: nn.Module) -> list[int] | None:
    """Where weights and buffers are, ``None`` if somebody wants to see layers being called, which a replay does not."""
    if has_hooks():
        return None
    addresses: list[int] = []
    modules = [backbone]
    while modules:
        module = modules.pop()
        for tensors in (module._parameters, module._buffers):
            addresses += [tensor.data_ptr() for tensor in tensors.values() if tensor is not None]
        for child in module._modules.values():
            if child is not None:
                if child._forward_hooks or child._forward_pre_hooks:
                    return None
                modules.append(child)
    return addresses


def _copied(value: Any) -> Any:
    """Tensors in lists and tuples, each a copy."""
    if isinstance(value, Tensor):
        return value.clone()
    return type(value)(map(_copied, value))
