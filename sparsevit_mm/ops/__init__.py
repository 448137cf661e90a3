"""Pure tensor functions: windows as rows of indices, routes through a token map, ranking."""

from .cache import IndexCache, is_tracing
from .chunks import rows_per_chunk
from .decisions import keep_mask, perturb, straight_through
from .ranking import rank_units
from .routes import WindowRoute, add_spill_row, build_route, drop_spill_row, write_rows
from .windows import WindowGrid, build_window_grid, pool_windows, window_token_counts

__all__ = [
    'IndexCache',
    'WindowGrid',
    'WindowRoute',
    'add_spill_row',
    'build_route',
    'build_window_grid',
    'drop_spill_row',
    'is_tracing',
    'keep_mask',
    'perturb',
    'pool_windows',
    'rank_units',
    'rows_per_chunk',
    'straight_through',
    'window_token_counts',
    'write_rows',
]
