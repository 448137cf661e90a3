"""What sparsity a run is at, in its log."""

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

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
    - ``sparsity/macs``, the MACs of the backbone relative to dense, where a shape is given.

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
