"""What dense and sparse take for one picture, interleaved."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ..cost import Environment, LatencyRecord, measure_interleaved
from ..cost.latency import forward_call
from ..cost.whole_model import whole_model_call, whole_model_scope
from ..models import SparseBackbone
from .pictures import PreparedPicture

__all__ = ['DemoLatency', 'Outdated', 'time_picture']

Sparsity = tuple[float, ...]


class Outdated(Exception):
    """Nobody waits for the result any more."""


@dataclass(frozen=True)
class DemoLatency:
    """Latencies of one picture.

    Args:
        dense_backbone: The backbone at sparsity 0.
        backbone: The backbone at the setting.
        dense_model: The whole model at sparsity 0.
        model: The whole model at the setting.
        scope: What is timed of the whole model.
    """

    dense_backbone: LatencyRecord
    backbone: LatencyRecord
    dense_model: LatencyRecord
    model: LatencyRecord
    scope: str

    @property
    def rounds(self) -> int:
        """Passes that medians and quartiles are taken over."""
        return self.backbone.runs

    @property
    def environment(self) -> Environment:
        """Where and how they were measured."""
        return self.backbone.environment


def time_picture(
    model: nn.Module,
    backbone: SparseBackbone,
    picture: PreparedPicture,
    sparsities: tuple[Sparsity, Sparsity],
    rounds: int,
    outdated: Callable[[], bool] | None = None,
) -> DemoLatency:
    """Times backbone and model at two settings, one pass of each in turn.

    Args:
        model: The model, in evaluation mode.
        backbone: Its backbone; left at one of the settings.
        picture: What is run.
        sparsities: The dense setting and the one to compare with it.
        rounds: Passes of each that are timed; one before each of them is not.
        outdated: Asked after every round whether to stop.

    Raises:
        Outdated: If it says so.
    """
    device = picture.images.device
    environment = Environment.current(device=str(device), dtype='float32', batch=1, shape=picture.shape)
    parts = {
        'backbone': forward_call(backbone, picture.images, 'float32'),
        'model': whole_model_call(model, picture.images, 'float32'),
    }

    def prepare(name: str) -> None:
        backbone.sparsity = sparsities[name.startswith('sparse')]

    def progress(done: int, number: int) -> None:
        if outdated is not None and done < number and outdated():
            raise Outdated

    with torch.no_grad():
        records = measure_interleaved(
            {f'{kind} {part}': call for part, call in parts.items() for kind in ('dense', 'sparse')},
            device=device,
            environment=environment,
            rounds=rounds,
            min_round_time=0.0,
            warmup=0,
            prepare=prepare,
            progress=progress,
        )
    return DemoLatency(
        records['dense backbone'],
        records['sparse backbone'],
        records['dense model'],
        records['sparse model'],
        whole_model_scope(model),
    )
