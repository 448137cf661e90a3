"""The whole way from a dense model to a found sparsity, on the embedded demo set."""

from .steps import FULL, SMOKE, Plan, Quickstart
from .table import Row, markdown, rich_table

__all__ = ['FULL', 'SMOKE', 'Plan', 'Quickstart', 'Row', 'markdown', 'rich_table']
