"""Pure tensor functions: windows as rows of indices, routes through a token map, ranking, decisions,
packages, images that keep different numbers, and the kernels of inference on a CPU."""

from .attention import attend
from .cache import IndexCache, as_numbers, is_tracing, keep_cached_values
from .chunks import rows_per_chunk
from .decisions import keep_mask, perturb, straight_through
from .layout import channels_last
from .linear import LinearKernel, has_hooks, linear_kernel, weight_kernel
from .observers import is_observed
from .package import fold_tokens, merge_packages, unfold_tokens
from .packed import PackedTokens, keep_above, keep_best_of_batch, kept_indices
from .ranking import rank_units
from .routes import (
    WindowRoute,
    add_spill_row,
    build_ragged_route,
    build_route,
    drop_spill_row,
    images_of_windows,
    write_rows,
)
from .tokens import gather_tokens, put_tokens
from .weights import forget_packed
from .windows import WindowGrid, build_window_grid, pool_windows, window_token_counts

__all__ = [
    'IndexCache',
    'LinearKernel',
    'PackedTokens',
    'WindowGrid',
    'WindowRoute',
    'add_spill_row',
    'as_numbers',
    'attend',
    'build_ragged_route',
    'build_route',
    'build_window_grid',
    'channels_last',
    'drop_spill_row',
    'fold_tokens',
    'forget_packed',
    'gather_tokens',
    'has_hooks',
    'images_of_windows',
    'is_observed',
    'is_tracing',
    'keep_above',
    'keep_best_of_batch',
    'keep_cached_values',
    'keep_mask',
    'kept_indices',
    'linear_kernel',
    'merge_packages',
    'perturb',
    'pool_windows',
    'put_tokens',
    'rank_units',
    'rows_per_chunk',
    'straight_through',
    'unfold_tokens',
    'weight_kernel',
    'window_token_counts',
    'write_rows',
]
