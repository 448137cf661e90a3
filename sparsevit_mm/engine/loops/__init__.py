"""Loops of mmengine's runners."""

from .sparsity_search_loop import EvaluationsFailed, SparsitySearchLoop

__all__ = ['EvaluationsFailed', 'SparsitySearchLoop']
