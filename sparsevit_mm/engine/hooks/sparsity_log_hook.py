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
    """Logs the sparsity of every site when a run begins, so that no result is without it.

    Args:
        shape: Height and width in pixels of the images to count MACs for; None leaves them out.

    Raises:
        ValueError: If the shape is not two positive integers, and, when a run begins, if the model has no
            sparse backbone.
    """

    def __init__(self, shape: Sequence[int] | None = None) -> None:
        if shape is not None and (len(shape) != 2 or not all(isinstance(n, int) and n > 0 for n in shape)):
            raise ValueError(f'shape must be height and width in pixels, such as (800, 1344), got {shape!r}.')
        self.shape = None if shape is None else tuple(shape)

    def before_run(self, runner: Runner) -> None:
        """Log one line."""
        backbone = find_sparse_backbone(runner.model)
        sites = ', '.join(f'{site} {value:g}' for site, value in zip(backbone.sites, backbone.sparsity))
        print_log(f'Sparsity of {type(backbone).__name__}: {sites}.{self._macs(backbone)}', logger='current')

    def _macs(self, backbone: SparseBackbone) -> str:
        if self.shape is None:
            return ''
        from ...cost import count_macs

        own = backbone.sparsity
        macs = count_macs(backbone, self.shape)
        backbone.sparsity = 0.0
        try:
            dense = count_macs(backbone, self.shape)
        finally:
            backbone.sparsity = own
        return f' {macs / 1e9:.4g} GMACs at {self.shape[0]}x{self.shape[1]}, {macs / dense:.1%} of dense.'
