"""The latency table of a backbone that ONNX Runtime runs, so that a search optimises for it."""

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..deploy.onnx_export import make_onnx
from ..deploy.onnx_run import OnnxSession
from ..extras import require
from ..models import SparseBackbone
from ..sparsity import DEFAULT_CHOICES
from .backbone_identity import BackboneIdentity
from .conditions import (
    check_float32,
    check_image_shape,
    check_schedule,
    check_threads,
    fixed_threads,
    measuring,
    random_images,
)
from .environment import Environment
from .latency import Progress
from .latency_table import LatencyTable
from .modes import ONNXRUNTIME
from .table_entries import check_choices
from .whole_latencies import Setting, table_from_latencies

if TYPE_CHECKING:
    import onnx

__all__ = ['measure_onnx_table', 'onnx_environment']

# Memory of the graphs that are kept loaded. Those beyond it are loaded anew for each value, in some tenths of a second.
LOADED_BYTES = 4 << 30


def onnx_environment(shape: tuple[int, int], *, batch: int = 1, threads: int | None = None) -> Environment:
    """Where and how ONNX Runtime runs here: device ``onnxruntime``, on this machine's processor.

    Raises:
        ValueError: If it is not installed.
    """
    require('onnxruntime')
    import onnxruntime

    here = Environment.current(device='cpu', dtype='float32', batch=batch, shape=shape, threads=threads)
    name = f'{here.device_name} by ONNX Runtime {onnxruntime.__version__}'
    return Environment.elsewhere(**{**here.to_dict(), 'device': ONNXRUNTIME, 'device_name': name})


def measure_onnx_table(
    backbone: SparseBackbone,
    shape: tuple[int, int],
    *,
    batch: int = 1,
    choices: Sequence[float] = DEFAULT_CHOICES,
    rounds: int = 10,
    threads: int | None = None,
    check: int = 0,
    progress: Progress | None = None,
) -> LatencyTable:
    """Time exported graphs and explain their latencies by a sum over the sites, see :func:`table_from_latencies`.

    A graph is exported for each setting that is timed; that takes longer than the timing.

    Args:
        backbone: One of ours. It comes back as it was.
        shape: Height and width in pixels.
        batch: Images in one forward.
        choices: Sparsities, ascending from 0.
        rounds: Values of each setting.
        threads: Of ONNX Runtime; torch's present ones if not given.
        check: Random settings to compare predictions with; 0 for none.
        progress: Called with the values timed and their number.

    Raises:
        ValueError: If an argument is out of range, a package is missing, or the backbone cannot be exported.
    """
    shape = check_image_shape(shape, batch)
    check_schedule(rounds, 0.0)
    check_threads(threads)
    check_float32(backbone)
    check_choices(tuple(choices))
    if backbone.counts == 'adaptive':
        raise ValueError(
            f"{type(backbone).__name__} has counts='adaptive', and an exported graph has fixed counts: set "
            f"counts='fixed'."
        )
    environment = onnx_environment(shape, batch=batch, threads=threads)
    with measuring(backbone), fixed_threads(environment.threads):
        images = random_images(backbone, shape, batch=batch)
        timed = _TimedGraphs(backbone, images, environment.threads)
        return table_from_latencies(
            BackboneIdentity.of(backbone), environment, choices, timed, rounds=rounds, check=check, progress=progress
        )


class _TimedGraphs:
    """Seconds of a forward pass at a setting."""

    def __init__(self, backbone: SparseBackbone, images: Tensor, threads: int) -> None:
        self._backbone, self._images, self._threads = backbone, images, threads
        self._graphs = _Graphs()
        self._sessions: OrderedDict[Setting, tuple[OnnxSession, int]] = OrderedDict()  # with the bytes of each

    def __call__(self, setting: Setting) -> float:
        session = self._session(setting)
        start = time.perf_counter()
        session(self._images)
        return time.perf_counter() - start

    def _session(self, setting: Setting) -> OnnxSession:
        """The loaded graph of a setting, which has just run once."""
        if setting in self._sessions:
            session, _ = self._sessions[setting]
            session(self._images)
            return session
        if setting not in self._graphs:
            self._backbone.sparsity = setting
            self._graphs.add(setting, make_onnx(self._backbone, self._images))
        graph, before = self._graphs.get(setting), _resident_bytes()
        session = OnnxSession(graph, self._threads)
        session(self._images)
        # Weights as they are and as products want them, and from the first run on the memory for activations.
        grown = max(_resident_bytes() - before, 3 * graph.ByteSize())
        self._sessions[setting] = session, grown
        while sum(size for _, size in self._sessions.values()) > LOADED_BYTES:
            self._sessions.popitem(last=False)
        return session


def _resident_bytes() -> int:
    """Memory that this process takes; 0 where the system does not tell."""
    try:
        return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except OSError:
        return 0


class _Graphs:
    """Graphs of one backbone, which keep the weights that they have in common once.

    They are kept as bytes: a message holds the memory of weights that were taken out of it for as long as it lives.
    """

    def __init__(self) -> None:
        self._graphs: dict[Setting, bytes] = {}
        self._weights: dict[bytes, bytes] = {}

    def __contains__(self, setting: Setting) -> bool:
        return setting in self._graphs

    def add(self, setting: Setting, graph: 'onnx.ModelProto') -> None:
        """Keeps a graph, without its weights; they are taken out of what is given too."""
        for weight in graph.graph.initializer:
            key = hashlib.sha256(weight.raw_data).digest()
            self._weights[key], weight.raw_data = weight.raw_data, key
        self._graphs[setting] = graph.SerializeToString()

    def get(self, setting: Setting) -> 'onnx.ModelProto':
        """A graph with its weights."""
        import onnx

        graph = onnx.ModelProto.FromString(self._graphs[setting])
        for weight in graph.graph.initializer:
            weight.raw_data = self._weights[weight.raw_data]
        return graph
