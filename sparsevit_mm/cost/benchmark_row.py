"""One row of a benchmark's report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .latency import LatencyRecord

__all__ = ['Row', 'sparsity_text']


@dataclass(frozen=True)
class Row:
    """A model at a sparsity, measured or not to be run.

    Args:
        config: Name of the config.
        model: Class of the backbone.
        sparsity: One float a site; None for the stock model.
        macs: MACs of one image, counted on what ran; None where it did not come to that.
        latency: Of the whole call, a batch; None where it does not run.
        backbone_latency: Of the backbone in a whole model.
        architecture: Number that rows share whose stock models are the same.
        kept: Mean fraction of its units that each site kept, where images have counts of their own.
        mode: How the backbone was run.
        compile_seconds: Of the first call, where the mode has something to make ready.
        roof: Of its matrix products alone.
        roof_share: Fraction of the MACs that are in the roof.
        error: Why it does not run, as the end of a sentence that starts with its name.
    """

    config: str
    model: str
    sparsity: tuple[float, ...] | None
    macs: int | None
    latency: LatencyRecord | None
    backbone_latency: LatencyRecord | None = None
    architecture: int = 0
    kept: Mapping[str, float] = field(default_factory=dict, hash=False)
    mode: str = 'eager'
    compile_seconds: float | None = None
    roof: LatencyRecord | None = None
    roof_share: float | None = None
    error: str | None = None

    @property
    def dense(self) -> bool:
        """Whether everything is computed."""
        return not any(self.sparsity or ())

    @property
    def name(self) -> str:
        """The model, its sparsity and its mode for people."""
        mode = '' if self.mode == 'eager' else f' ({self.mode})'
        if self.sparsity is None:
            return f'stock {self.model}{mode}'
        return f'{self.model} at sparsity {self.sparsity_text}{mode}'

    @property
    def sparsity_text(self) -> str:
        """One number where all sites have the same."""
        return '-' if self.sparsity is None else sparsity_text(self.sparsity)

    @property
    def distance(self) -> float | None:
        """The median latency over that of its matrix products alone."""
        return None if self.roof is None else self.latency.median / self.roof.median


def sparsity_text(sparsity: Sequence[float] | None, between: str = ',') -> str:
    """A sparsity for people: one number where all sites have the same, ``stock`` for None."""
    if sparsity is None:
        return 'stock'
    values = sparsity[:1] if len(set(sparsity)) == 1 else sparsity
    return between.join(f'{value:g}' for value in values)
