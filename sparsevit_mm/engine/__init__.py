"""Hooks, loops and optimizer wrappers for mmengine's runner."""

from ..compat import allow_mmengine_checkpoints

allow_mmengine_checkpoints()
