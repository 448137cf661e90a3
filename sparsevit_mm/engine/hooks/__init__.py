"""Hooks of mmengine's runners that set the sparsity of a backbone, or tell it."""

from .sparsity_adaptation_hook import SparsityAdaptationHook
from .sparsity_log_hook import SparsityLogHook

__all__ = ['SparsityAdaptationHook', 'SparsityLogHook']
