"""Cost models of a backbone: MACs in closed form, and latency measured against the dense backbone."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..sparsity import DEFAULT_CHOICES

if TYPE_CHECKING:
    from torch import nn

__all__ = ['COST_MODELS', 'LatencyCost', 'MacsCost']

TOLERANCES = (0.02, 0.1)  # relative; interleaved medians agree no better than the first from one call to the next


class MacsCost:
    """Multiply-adds of one image, counted in closed form.

    Args:
        backbone: One of ours.
        shape: Height and width in pixels.
        choices: The allowed sparsities; the greatest one gives the least cost.
    """

    name = 'macs'
    unit = 'MACs'
    exact = True
    tolerance = 0.0

    def __init__(
        self, backbone: 'nn.Module', shape: tuple[int, int], *, choices: Sequence[float] = DEFAULT_CHOICES
    ) -> None:
        self.backbone, self.shape, self.sparsest = backbone, (int(shape[0]), int(shape[1])), max(choices)
        self._counted: dict[tuple[float, ...], float] = {}

    def calibrate(self, state: dict | None = None) -> dict:
        """The dense and the least MACs; counted again, as it costs nothing."""
        return {'dense': self.cost(0.0), 'least': self.cost(self.sparsest)}

    def cost(self, sparsity: float | Sequence[float]) -> float:
        """MACs at a sparsity."""
        from ..cost import count_macs

        sparsity = self.backbone.sparsity_layout.normalize(sparsity)
        if sparsity not in self._counted:
            with _at(self.backbone, sparsity):
                self._counted[sparsity] = float(count_macs(self.backbone, self.shape))
        return self._counted[sparsity]

    estimate = cost

    def conditions(self) -> dict:
        """The size of the image."""
        return {'shape': list(self.shape)}


class LatencyCost:
    """Seconds of a forward pass of the backbone.

    A candidate is measured in alternation with the dense backbone, and its cost is the ratio of the two medians
    times the dense latency that the study was begun with. Whatever slows the machine for a while so cancels, and
    a budget that is a fraction of dense means the same in the first hour and in the last.

    Args:
        backbone: One of ours.
        shape: Height and width in pixels.
        batch: Images in one forward.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        device: Where it is measured.
        choices: The allowed sparsities; the greatest one gives the least cost.
        rounds: Alternations of a measurement.
        min_round_time: Seconds that the calls of one round last at least.
        measure: Replaces ``sparsevit_mm.cost.measure_latency``.
    """

    name = 'latency'
    unit = 's'
    exact = False

    def __init__(
        self,
        backbone: 'nn.Module',
        shape: tuple[int, int],
        *,
        batch: int = 1,
        dtype: str = 'float32',
        device: str = 'cpu',
        choices: Sequence[float] = DEFAULT_CHOICES,
        rounds: int = 5,
        min_round_time: float = 0.1,
        measure: Callable[..., list] | None = None,
    ) -> None:
        self.backbone = backbone
        self.options = {'batch': int(batch), 'dtype': dtype, 'device': str(device)}
        self.rounds, self.min_round_time, self.sparsest = rounds, min_round_time, max(choices)
        self.macs = MacsCost(backbone, shape, choices=choices)
        self._measure = measure
        self._state: dict = {}

    @property
    def tolerance(self) -> float:
        """The uncertainty of a median over the rounds, by the spread of the calibration.

        The standard error of a median is about the distance of the quartiles over the root of the number of values.
        """
        least, most = TOLERANCES
        return min(most, max(least, self._state.get('spread', 0.0) / math.sqrt(self.rounds)))

    def calibrate(self, state: dict | None = None) -> dict:
        """Measures the dense and the sparsest backbone, or takes over what the study was begun with."""
        if state is None:
            dense, sparsest = self._records(0.0, self.sparsest, rounds=2 * self.rounds)
            state = {
                'dense': dense.median,
                'least': sparsest.median,
                'spread': max(dense.spread, sparsest.spread),
                'records': {'dense': dense.to_dict(), 'sparsest': sparsest.to_dict()},
            }
        self._state = state
        counted = self.macs.calibrate()
        self._slope = (state['dense'] - state['least']) / max(counted['dense'] - counted['least'], 1.0)
        self._least_macs = counted['least']
        return state

    def cost(self, sparsity: float | Sequence[float]) -> float:
        """Seconds at a sparsity, by a measurement."""
        dense, candidate = self._records(0.0, sparsity, rounds=self.rounds)
        return candidate.median / dense.median * self._state['dense']

    def estimate(self, sparsity: float | Sequence[float]) -> float:
        """Between the least and the dense latency as the MACs are between theirs.

        Time is not proportional to MACs; the study corrects the estimate by what it has measured and decides
        nothing by it.
        """
        return self._state['least'] + self._slope * (self.macs.cost(sparsity) - self._least_macs)

    def conditions(self) -> dict:
        """Device, its name, dtype, batch, size and threads: all that latencies cannot be compared across."""
        from ..cost import Environment

        environment = Environment.current(shape=self.macs.shape, **self.options).to_dict()
        return {key: environment[key] for key in ('device', 'device_name', 'dtype', 'batch', 'shape', 'threads')}

    def _records(self, *sparsities: float | Sequence[float], rounds: int) -> list:
        measure = self._measure
        if measure is None:
            from ..cost import measure_latency as measure
        return measure(
            self.backbone,
            self.macs.shape,
            sparsities=list(sparsities),
            rounds=rounds,
            min_round_time=self.min_round_time,
            warmup=1,
            **self.options,
        )


@contextmanager
def _at(backbone: 'nn.Module', sparsity: float | Sequence[float]) -> Iterator[None]:
    """The backbone at a sparsity, for a while."""
    before = backbone.sparsity
    backbone.sparsity = sparsity
    try:
        yield
    finally:
        backbone.sparsity = before


COST_MODELS = {'latency': LatencyCost, 'macs': MacsCost}
