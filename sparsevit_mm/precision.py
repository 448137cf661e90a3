"""Mixed precision, by what the device can do."""

import logging

from mmengine.config import Config
from mmengine.logging import print_log

from .compat import cpu_has_bfloat16
from .config import import_in_config
from .registry import SCOPE, type_name

__all__ = ['emulates_bfloat16', 'fit_precision', 'training_dtype', 'use_amp']

BFLOAT16 = f'{SCOPE}.BFloat16OptimWrapper'


def emulates_bfloat16(device: str) -> bool:
    """Whether a kind of device computes bfloat16 by other means, at a fraction of the speed of float32."""
    return device == 'cpu' and not cpu_has_bfloat16()


def use_amp(cfg: Config) -> None:
    """Train in mixed precision: float16 with a loss scale on CUDA, bfloat16 on the CPU.

    Raises:
        ValueError: If the config has an optimizer wrapper that this cannot replace.
    """
    kind = _wrapper(cfg)
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', BFLOAT16.rpartition('.')[-1]):
        raise ValueError(
            f'--amp replaces optim_wrapper.type=OptimWrapper, but the config has {kind}: set the precision in it.'
        )
    if kind == 'OptimWrapper':
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'


def fit_precision(cfg: Config) -> None:
    """Where there is no accelerator, replace a config's float16 training by bfloat16: the other refuses the CPU."""
    from mmengine.device import get_device

    if cfg.get('optim_wrapper') and _wrapper(cfg) == 'AmpOptimWrapper' and get_device() in ('cpu', 'mps'):
        print_log(f'AmpOptimWrapper needs a GPU: training by {BFLOAT16} instead.', 'current', logging.WARNING)
        for option in ('loss_scale', 'dtype', 'use_fsdp'):
            cfg.optim_wrapper.pop(option, None)
        cfg.optim_wrapper.type = BFLOAT16
        import_in_config(cfg, SCOPE)


def training_dtype(cfg: Config) -> str:
    """What a config's training computes products in on this machine: ``'float32'``, ``'bfloat16'`` or ``'float16'``."""
    from mmengine.device import get_device

    kind = _wrapper(cfg)
    if kind == BFLOAT16.rpartition('.')[-1]:
        emulate = cfg.optim_wrapper.get('emulate', False)
        return 'float32' if emulates_bfloat16(get_device()) and not emulate else 'bfloat16'
    return str(cfg.optim_wrapper.get('dtype') or 'float16') if kind == 'AmpOptimWrapper' else 'float32'


def _wrapper(cfg: Config) -> str:
    return type_name(cfg.optim_wrapper) or 'OptimWrapper'
