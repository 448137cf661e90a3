"""A model that several people ask for pictures, one after another."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..apis import init_scope, load_config, load_sparse_model
from ..config import BACKBONE_KEYS
from ..cost import count_macs
from ..cost.counter import count_executed_macs
from ..cost.memory import measure_peak_memory
from ..models import SiteRecord, SparseSwin, find_sparse_backbone
from ..visualization import SiteMap, draw_heat_map, draw_site, site_maps
from .cameras import Cameras
from .latency import DemoLatency, Outdated, time_picture
from .pictures import PictureReader, PreparedPicture
from .settings import normalize_settings
from .tasks import focal_of, task_of

__all__ = ['Demo', 'DemoResult', 'load_demo']

REMEMBERED = 8  # pictures whose dense prediction is kept
FEWEST = 3  # passes that have quartiles
BEGIN = 0.5  # where sliders stand if the config is dense


@dataclass(frozen=True)
class DemoResult:
    """What is shown of one picture at one setting.

    Args:
        sparsity: One float a site.
        shape: Height and width of the backbone's input.
        dense: The dense prediction, drawn on the picture, uint8 RGB.
        sparse: The sparse one.
        overlay: How many blocks computed each place.
        seen: The picture as the network sees it.
        maps: What each site computed.
        dense_macs: MACs of the backbone at sparsity 0.
        macs: MACs of the backbone at the setting.
        agreement: How far the two predictions agree, in a sentence.
        notes: What a user should know of this picture, in sentences.
    """

    sparsity: tuple[float, ...]
    shape: tuple[int, int]
    dense: np.ndarray
    sparse: np.ndarray
    overlay: np.ndarray
    seen: np.ndarray
    maps: tuple[SiteMap, ...]
    dense_macs: int
    macs: int
    agreement: str
    notes: tuple[str, ...]

    def draw_sites(self) -> list[np.ndarray]:
        """One picture a site: what it computed keeps its colours."""
        return [draw_site(self.seen, site_map) for site_map in self.maps]


@dataclass(frozen=True)
class _Run:
    """One forward pass of the model."""

    sample: Any
    records: list[SiteRecord]
    macs: int


@dataclass(frozen=True)
class _Known:
    """A picture that was asked for before."""

    picture: PreparedPicture
    dense: _Run
    drawn: np.ndarray


class Demo:
    """Runs a model on pictures at any sparsity, for one caller at a time.

    Nothing of a call is left for the next one: a call sets the sparsity that it is for under a lock, and puts back what
    it found.

    Args:
        model: A detector, segmentor or monocular 3D detector with a sparse backbone, as ``build_model`` gives it.
        trained: Whether its weights are those of a checkpoint.
        settings: Named sparsities to choose from.
        cameras: Camera matrices for a monocular 3D detector; cameras like that of its data set if not given.
        score_thr: See :func:`task_of`.
        rounds: Passes that a latency is the median of.

    Raises:
        ValueError: If the model has no sparse backbone or is of no kind that can be shown, or a setting does not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        trained: bool = True,
        settings: Mapping[str, float | Sequence[float]] | None = None,
        cameras: Cameras | None = None,
        score_thr: float | None = None,
        rounds: int = 5,
    ) -> None:
        init_scope(model.cfg)
        self.model, self.trained = model, trained
        self.backbone = find_sparse_backbone(model)
        self.layout = self.backbone.sparsity_layout
        self.start = self.backbone.sparsity
        if not self.adaptive and not any(self.start):
            self.start = (BEGIN,) * len(self.layout.sites)
        self.settings = normalize_settings(settings or {}, self.layout)
        self.task = task_of(model, score_thr)
        self.rounds = rounds
        is_3d = model.cfg.get('default_scope') == 'mmdet3d'
        if is_3d and cameras is None:
            cameras = Cameras(focal=focal_of(model))
        self._read = PictureReader(model, self.task.canvas, cameras if is_3d else None)
        self._sliding = (getattr(model, 'test_cfg', None) or {}).get('mode') == 'slide'
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple, _Known] = OrderedDict()

    @property
    def adaptive(self) -> bool:
        """Whether images decide how much of them is computed, so that there is no sparsity to choose."""
        return self.backbone.counts == 'adaptive'

    @property
    def unit(self) -> str:
        """What sites choose from, in the plural."""
        return 'windows' if isinstance(self.backbone, SparseSwin) else 'tokens'

    @property
    def dense(self) -> tuple[float, ...]:
        """The setting at which nothing is skipped."""
        return (0.0,) * len(self.layout.sites)

    def render(self, image: str | Path, sparsity: float | Sequence[float]) -> DemoResult:
        """Predicts on a picture, dense and sparse, and draws both with what was computed.

        Args:
            image: An image file.
            sparsity: A float for all sites, or one a site; of no effect with adaptive counts.

        Raises:
            ValueError: If the file is no image, the model does not run on it, or the sparsity does not fit.
        """
        values = self.start if self.adaptive else self.layout.normalize(sparsity)
        with self._lock:
            known = self._of(Path(image))
            picture = known.picture
            run = self._run(picture, values)
            drawn = self.task.draw(picture, run.sample)
        set_to = None if self.adaptive else dict(zip(self.layout.sites, values))
        maps = site_maps(run.records, picture.seen.shape[:2], input_size=picture.shape, sparsity=set_to)
        return DemoResult(
            sparsity=values,
            shape=picture.shape,
            dense=known.drawn,
            sparse=drawn,
            overlay=draw_heat_map(picture.seen, maps),
            seen=picture.seen,
            maps=tuple(maps),
            dense_macs=known.dense.macs,
            macs=run.macs,
            agreement=self.task.compare(picture, known.dense.sample, run.sample),
            notes=tuple(self._notes(picture, values)),
        )

    def measure(
        self, image: str | Path, sparsity: float | Sequence[float], outdated: Callable[[], bool] | None = None
    ) -> DemoLatency | None:
        """Times backbone and whole model on a picture, dense and sparse in turn.

        Args:
            image: An image file.
            sparsity: As for :meth:`render`.
            outdated: Asked between passes whether to stop.

        Returns:
            The latencies, None if it was stopped.

        Raises:
            ValueError: As :meth:`render` does.
        """
        values = self.start if self.adaptive else self.layout.normalize(sparsity)
        with self._lock:
            picture = self._of(Path(image)).picture
            with self._at(values):
                try:
                    return time_picture(self.model, self.backbone, picture, (self.dense, values), self.rounds, outdated)
                except Outdated:
                    return None

    def try_out(self, image: str | Path) -> float:
        """Seconds that the model takes for a picture, after it has run once.

        Raises:
            ValueError: As :meth:`render` does.
        """
        with self._lock:
            # In a thread of its own the profiler, which latencies are measured with, would complain.
            measure_peak_memory(lambda: None, torch.device('cpu'))
            picture = self._of(Path(image)).picture
            begin = time.perf_counter()
            self._run(picture, self.dense)
            return time.perf_counter() - begin

    def _of(self, path: Path) -> _Known:
        """A picture with its dense prediction; the lock is held."""
        status = path.stat() if path.is_file() else None
        key = (str(path), status and (status.st_mtime_ns, status.st_size))
        if key not in self._known:
            picture = self._read(path)
            run = self._run(picture, self.dense)
            self._known[key] = _Known(picture, run, self.task.draw(picture, run.sample))
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    @contextmanager
    def _at(self, sparsity: tuple[float, ...]) -> Iterator[None]:
        before, self.backbone.sparsity = self.backbone.sparsity, sparsity
        try:
            yield
        except RuntimeError as error:  # too small for the strides, too large for the memory
            raise ValueError(f'The model does not run on this picture: {str(error).splitlines()[0]}') from error
        finally:
            self.backbone.sparsity = before

    @torch.no_grad()
    def _run(self, picture: PreparedPicture, sparsity: tuple[float, ...]) -> _Run:
        with self._at(sparsity):
            with self.backbone.record_selections() as records:
                sample = self.model(picture.inputs, picture.new_samples(), mode='predict')[0]
            if self._sliding:  # it ran on crops
                with self.backbone.record_selections() as records:
                    self.backbone(picture.images)
            if self.adaptive:
                macs = count_executed_macs(lambda: self.backbone(picture.images))
            else:
                macs = count_macs(self.backbone, picture.shape)
        return _Run(sample, records, macs)

    def _notes(self, picture: PreparedPicture, sparsity: tuple[float, ...]) -> Iterator[str]:
        if not any(sparsity):
            yield 'The sparsity is 0 everywhere, so nothing is skipped and both predictions are the same.'
        if picture.original is not None:
            (height, width), (h, w) = picture.original, picture.rgb.shape[:2]
            yield f'The picture of {width} x {height} pixels is large and was made {w} x {h} first.'
        if picture.camera is not None:
            yield picture.camera.words
        if self._sliding:
            yield (
                'This model predicts on sliding crops. What is computed, MACs and the latency of the backbone are of '
                'the picture in one piece.'
            )


def load_demo(
    config: str | Path,
    checkpoint: str | None,
    *,
    sparsity: float | Sequence[float] | None = None,
    device: str = 'cpu',
    cfg_options: Mapping[str, Any] | None = None,
    settings: Mapping[str, float | Sequence[float]] | None = None,
    camera: str | Path | None = None,
    score_thr: float | None = None,
    rounds: int = 5,
) -> Demo:
    """A demo of a config, stock or ours; a stock backbone is made sparse.

    Args:
        config: Path, or ``mmseg::...`` and the like.
        checkpoint: A file with the weights; None for random ones.
        sparsity: Where to begin; the config's own if not given, or the middle where it is dense.
        device: Where the model runs.
        cfg_options: Overrides of the config.
        settings: See :class:`Demo`.
        camera: A file for :class:`Cameras`.
        score_thr: See :func:`task_of`.
        rounds: See :class:`Demo`.

    Raises:
        ValueError: On a mistake in the config or an argument, or if the checkpoint does not fit.
    """
    if rounds < FEWEST:
        raise ValueError(f'rounds must be at least {FEWEST}: fewer have no quartiles to judge by, got {rounds}.')
    cameras = None if camera is None else Cameras(camera)
    if sparsity is None:
        model_cfg = load_config(config, cfg_options).get('model') or {}
        sparsity = next((model_cfg[key].get('sparsity', 0.0) for key in BACKBONE_KEYS if key in model_cfg), 0.0)
    _, model = load_sparse_model(config, checkpoint, sparsity, device=device, cfg_options=cfg_options)
    return Demo(
        model,
        trained=checkpoint is not None,
        settings=settings,
        cameras=cameras,
        score_thr=score_thr,
        rounds=rounds,
    )
