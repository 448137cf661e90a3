"""Loops of mmengine's runners."""

from .sparsity_search_loop import SparsitySearchLoop

__all__ = ['SparsitySearchLoop']
