"""Sparse vision backbones for OpenMMLab: dense prediction without the work that does not matter.

Importing the package only declares its registries. What is registered in them, and everything that
needs torch, is imported when it is first asked for.
"""

from . import registry
from .version import __version__

__all__ = ['__version__', 'registry', 'sparsify', 'use_cuda_graphs']


def __getattr__(name: str):
    if name == 'sparsify':
        from .models import sparsify

        return sparsify
    if name == 'use_cuda_graphs':
        from .graphs import use_cuda_graphs

        return use_cuda_graphs
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
