"""Child registries of mmengine's roots; each one imports what it lists when it is first used."""

from collections.abc import Mapping
from typing import Any

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

__all__ = ['DATASETS', 'HOOKS', 'LOOPS', 'METRICS', 'MODELS', 'OPTIM_WRAPPERS', 'SCOPE', 'TRANSFORMS', 'type_name']

SCOPE = 'sparsevit_mm'


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(name, parent=parent, scope=SCOPE, locations=[f'{SCOPE}.{place}' for place in locations])


# Backbones and selectors share one registry: both are nn.Modules, and a nested selector config then
# resolves under any default scope.
MODELS = _child('model', MMENGINE_MODELS, 'models', 'selectors')
HOOKS = _child('hook', MMENGINE_HOOKS, 'engine.hooks')
LOOPS = _child('loop', MMENGINE_LOOPS, 'engine.loops')
OPTIM_WRAPPERS = _child('optim_wrapper', MMENGINE_OPTIM_WRAPPERS, 'engine.optim')
DATASETS = _child('dataset', MMENGINE_DATASETS, 'datasets')
TRANSFORMS = _child('transform', MMENGINE_TRANSFORMS, 'datasets')
METRICS = _child('metric', MMENGINE_METRICS, 'evaluation')


def type_name(config: Any) -> str:
    """The name of what a config builds, without its scope, be its ``type`` a string or a class; empty without one."""
    kind = (config.get('type') if isinstance(config, Mapping) else None) or ''
    return getattr(kind, '__name__', str(kind)).rpartition('.')[-1]
