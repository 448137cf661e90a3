"""Hooks of mmengine's runners that set the sparsity of a backbone while it trains."""

from .sparsity_adaptation_hook import SparsityAdaptationHook

__all__ = ['SparsityAdaptationHook']
