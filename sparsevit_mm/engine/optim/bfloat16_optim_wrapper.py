"""Mixed precision in bfloat16, on the CPU too."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import nn

from ...compat import compute_pgd_losses_in_float32, run_mmcv_ops_in_float32
from ...precision import emulates_bfloat16
from ...registry import OPTIM_WRAPPERS

__all__ = ['BFloat16OptimWrapper']


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Runs the forward pass under bfloat16 autocast on whatever device the model lives.

    bfloat16 has float32's range, so there is no loss scaler, and its state is that of the plain wrapper: a
    run can go on with or without it. mmengine's ``AmpOptimWrapper`` refuses the CPU because its scaler does.

    A processor without bfloat16 computes it several times slower than float32, so it trains in float32.

    Args:
        emulate: Whether to compute in bfloat16 there too.

    Raises:
        ValueError: If a loss scale is given, or if the CUDA device has no bfloat16.
    """

    def __init__(self, *args, emulate: bool = False, **kwargs) -> None:
        for option in ('loss_scale', 'dtype'):
            if option in kwargs:
                raise ValueError(
                    f'optim_wrapper.{option}={kwargs[option]!r} does not go with BFloat16OptimWrapper, which always '
                    f"computes in bfloat16 without a loss scale: remove it, or use type='AmpOptimWrapper' on a GPU."
                )
        super().__init__(*args, **kwargs)
        self.emulate = emulate
        self._told = False
        run_mmcv_ops_in_float32()
        compute_pgd_losses_in_float32()

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, and no gradient synchronisation while gradients are accumulated."""
        device = next(model.parameters()).device.type
        if device == 'cuda' and not torch.cuda.is_bf16_supported():
            raise ValueError(
                f'{torch.cuda.get_device_name()} has no bfloat16: use optim_wrapper.type=AmpOptimWrapper instead.'
            )
        slow = emulates_bfloat16(device) and not self.emulate
        if slow and not self._told:
            self._told = True
            print_log(
                'This processor has no bfloat16: training in float32, which is faster here '
                '(optim_wrapper.emulate=True computes in bfloat16 nevertheless).',
                'current',
                logging.WARNING,
            )
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16, enabled=not slow):
            yield
