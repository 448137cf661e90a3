"""What sparsity a run is at, in its log."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor

from ...models import SparseBackbone, find_sparse_backbone
from ...registry import HOOKS

__all__ = ['SparsityLogHook']


@HOOKS.register_module()
class SparsityLogHook(Hook):
    """Logs the sparsity of every site, so that no result is without it.

    A line when a run begins; in training, curves in every backend of the visualizer:

    - ``sparsity/SITE``, at which the iteration was trained,
    - ``keep_ratio/SITE``, the fraction of units that a learned selector wants to keep, averaged over the images of
      the first process, where a site has such a selector and is not dense,
    - ``keep_count/SITE_mean``, ``_min``, ``_max``: units kept of an image, where images have counts of their own,
      over the images of the first process,
    - ``sparsity/macs``, the MACs of the backbone relative to dense, where a shape is given.

    With adaptive counts every validation and test ends with a line on what its images kept, and curves of that as
    ``val/keep_count/SITE_mean`` and so on.

    They go to the backends directly and not by the message hub, which would put them all into each line of the
    terminal; a record of their own also keeps mmdet's ``analyze_logs.py`` reading the losses.

    Args:
        shape: Height and width in pixels of the images to count MACs for; None leaves them out.
        interval: Iterations between two points of the curves.

    Raises:
        ValueError: If an option is not valid, and, when a run begins, if the model has no sparse backbone.
    """

    # Before the hooks that set a sparsity for one iteration take it back.
    priority = 'ABOVE_NORMAL'

    def __init__(self, shape: Sequence[int] | None = None, interval: int = 50) -> None:
        if shape is not None and (len(shape) != 2 or not all(isinstance(n, int) and n > 0 for n in shape)):
            raise ValueError(f'shape must be height and width in pixels, such as (800, 1344), got {shape!r}.')
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise ValueError(f'interval must be a positive number of iterations, got {interval!r}.')
        self.shape = None if shape is None else tuple(shape)
        self.interval = interval

    def before_val_epoch(self, runner: Runner) -> None:
        """Begin to collect counts."""
        self._seen: dict[str, list[Tensor]] = {}

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None, outputs: Any = None
    ) -> None:
        """Collect the counts of a batch."""
        for site, counts in find_sparse_backbone(runner.model).kept_counts.items():
            self._seen.setdefault(site, []).append(counts.cpu())

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log what the images kept."""
        if values := self._log_counts():
            runner.visualizer.add_scalars({f'val/{name}': value for name, value in values.items()}, step=runner.iter)

    def before_test_epoch(self, runner: Runner) -> None:
        """Begin to collect counts."""
        self.before_val_epoch(runner)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None, outputs: Any = None
    ) -> None:
        """Collect the counts of a batch."""
        self.after_val_iter(runner, batch_idx)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log what the images kept."""
        self._log_counts()

    def _log_counts(self) -> dict[str, float]:
        seen = {site: torch.cat(counts).double() for site, counts in self._seen.items()}
        if seen:
            sites = '; '.join(
                f'{site} {counts.mean():.1f} ({counts.min():.0f} to {counts.max():.0f}, '
                f'deviation {counts.std(correction=0):.1f})'
                for site, counts in seen.items()
            )
            images = len(next(iter(seen.values())))
            print_log(f'Units kept of an image, mean over {images} images: {sites}.', logger='current')
        return _statistics(seen)

    def before_run(self, runner: Runner) -> None:
        """Log one line."""
        backbone = find_sparse_backbone(runner.model)
        sites = ', '.join(f'{site} {value:g}' for site, value in zip(backbone.sites, backbone.sparsity))
        line = f'Sparsity of {type(backbone).__name__}: {sites}.'
        if self.shape is not None:
            macs, dense = self._macs(backbone)
            line += f' {macs / 1e9:.4g} GMACs at {self.shape[0]}x{self.shape[1]}, {macs / dense:.1%} of dense.'
        print_log(line, logger='current')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None, outputs: dict | None = None
    ) -> None:
        """Add a point to the curves."""
        if self.every_n_train_iters(runner, self.interval):
            runner.visualizer.add_scalars(self.scalars(find_sparse_backbone(runner.model)), step=runner.iter + 1)

    def scalars(self, backbone: SparseBackbone) -> dict[str, float]:
        """The values of this moment by the names of their curves."""
        values = {f'sparsity/{site}': value for site, value in zip(backbone.sites, backbone.sparsity)}
        values |= {f'keep_ratio/{site}': ratio.mean().item() for site, ratio in backbone.keep_ratios.items()}
        values |= _statistics(backbone.kept_counts)
        if self.shape is not None:
            macs, dense = self._macs(backbone)
            values['sparsity/macs'] = macs / dense
        return values

    def _macs(self, backbone: SparseBackbone) -> tuple[int, int]:
        """MACs at the present sparsity and at none."""
        from ...cost import count_macs

        own = backbone.sparsity
        macs = count_macs(backbone, self.shape)
        backbone.sparsity = 0.0
        try:
            return macs, count_macs(backbone, self.shape)
        finally:
            backbone.sparsity = own


def _statistics(counts: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean, least and greatest of the units that each site keeps of the images, by the names of their curves."""
    return {
        f'keep_count/{site}_{name}': float(getattr(kept.double(), name)())
        for site, kept in counts.items()
        for name in ('mean', 'min', 'max')
    }
