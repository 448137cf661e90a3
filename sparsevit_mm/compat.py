"""What torch, OpenMMLab's releases and their forks, each new or old, need from each other.

Nothing outside of this file asks for a version, or for what only some versions have.

Since torch 2.6 ``torch.load`` refuses everything but tensors and plain containers unless it is told what else
a file may hold. A checkpoint of mmengine's runner also holds its log history: ``HistoryBuffer`` objects, the
NumPy arrays in them, and their statistics methods, pickled as ``getattr(HistoryBuffer, 'mean')``. The list
below allows these and no more: a real ``getattr`` would hand a crafted file every attribute of every object,
a real ``numpy.dtype`` one with object or overlapping fields, so both are stand-ins that know a few arguments.
The loader of the forks' mmengine allows both, and reads what torch refuses without any check: it is replaced.

And mmcv's operators and the losses of mmdet3d's PGD know no bfloat16: they are made to compute in float32 instead.
"""

import functools
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    'allow_mmengine_checkpoints',
    'aten_operators',
    'autocast_dtype',
    'before_loading',
    'compilation_limit_option',
    'compute_pgd_losses_in_float32',
    'cpu_has_bfloat16',
    'event_start',
    'has_custom_operators',
    'has_dynamo_onnx_exporter',
    'has_global_hooks',
    'is_compiling',
    'is_compiling_to_run',
    'load_checkpoint_file',
    'run_mmcv_ops_in_float32',
]

T = TypeVar('T')

# The methods that HistoryBuffer registers for itself.
STATISTICS = ('min', 'max', 'current', 'mean')

# NumPy moved this module in 2.0; a file may come from either side.
MULTIARRAY = ('numpy.core.multiarray', 'numpy._core.multiarray')

NUMBER_KINDS = 'biuf'
NUMBER_CODES = ('?', 'b', 'h', 'i', 'l', 'q', 'B', 'H', 'I', 'L', 'Q', 'e', 'f', 'd', 'g')

# Autograd functions of mmcv.ops whose kernels lack bfloat16, and which the models of the three packages use.
WITHOUT_BFLOAT16 = {
    'deform_conv': ('DeformConv2dFunction',),
    'modulated_deform_conv': ('ModulatedDeformConv2dFunction',),
    'nms': ('NMSop', 'SoftNMSop'),
    'roi_align': ('RoIAlignFunction',),
    'roi_pool': ('RoIPoolFunction',),
}


def autocast_dtype(device_type: str) -> 'torch.dtype | None':
    """The dtype that autocast computes in now on a kind of device, ``None`` where it is off."""
    import torch

    if hasattr(torch, 'get_autocast_dtype'):  # torch 2.4
        known = torch.amp.is_autocast_available(device_type)
        return torch.get_autocast_dtype(device_type) if known and torch.is_autocast_enabled(device_type) else None
    if device_type == 'cpu':
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def cpu_has_bfloat16() -> bool:
    """Whether this processor computes bfloat16 itself; without that it takes several times as long as float32."""
    import torch

    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a torch without oneDNN
        return False


def has_dynamo_onnx_exporter() -> bool:
    """Whether ``torch.onnx.export`` goes by ``torch.export``; the exporter before it loses writes into maps."""
    import torch
    from mmengine.utils import digit_version

    return digit_version(torch.__version__) >= digit_version('2.6')


def has_custom_operators() -> bool:
    """Whether Python functions can be made operators that ``torch.compile`` takes into a graph as they are."""
    import torch

    return hasattr(torch.library, 'custom_op')  # torch 2.4


def is_compiling() -> bool:
    """Whether ``torch.compile`` or ``torch.export`` traces at this moment."""
    import torch

    if hasattr(torch.compiler, 'is_compiling'):  # torch 2.2
        return torch.compiler.is_compiling()
    return torch._dynamo.is_compiling()


def is_compiling_to_run() -> bool:
    """Whether what :func:`is_compiling` speaks of is sure to be run here by torch, and not exported."""
    import torch

    if not hasattr(torch.compiler, 'is_exporting'):  # torch 2.7
        return False
    return torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting()


def event_start(event: Any) -> int:
    """When an event of the profiler began, in nanoseconds, or before torch 2.3 in microseconds."""
    return event.start_ns() if hasattr(event, 'start_ns') else event.start_us()


def has_global_hooks() -> bool:
    """Whether somebody wants to see every module being called, or the gradients of every module."""
    from torch.nn.modules import module

    if hasattr(module, '_has_any_global_hook'):  # torch 2.2
        return bool(module._has_any_global_hook())
    kinds = ('backward_pre', 'backward', 'forward_pre', 'forward')
    return any(getattr(module, f'_global_{kind}_hooks') for kind in kinds)


def before_loading(module: 'nn.Module', hook: Callable[..., None]) -> None:
    """Have a function called before a state dict is loaded into a module, as ``register_load_state_dict_pre_hook``."""
    if hasattr(module, 'register_load_state_dict_pre_hook'):  # torch 2.5
        module.register_load_state_dict_pre_hook(hook)
    else:
        module._register_load_state_dict_pre_hook(hook, with_module=True)


def compilation_limit_option() -> str:
    """What Dynamo calls the option that says how often a function is compiled before it is given up."""
    from torch._dynamo import config

    return 'recompile_limit' if hasattr(config, 'recompile_limit') else 'cache_size_limit'  # torch 2.6


def aten_operators(by_name: Mapping[str, T]) -> dict[Any, T]:
    """The same by operators in the place of their names, without those that this torch lacks."""
    from torch import ops

    return {getattr(ops.aten, name): value for name, value in by_name.items() if hasattr(ops.aten, name)}


def allow_mmengine_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)`` read the checkpoints that mmengine's runner writes.

    It may be called any number of times. On a torch without ``torch.serialization.add_safe_globals`` (before
    2.4) it does nothing: there ``torch.load`` takes any file, and so does mmengine's runner, unless it is read by
    :func:`load_checkpoint_file`.
    """
    import torch

    add = getattr(torch.serialization, 'add_safe_globals', None)
    if add is not None:
        add(list(_safe_globals()))
        _make_loader_of_forks_safe()


def load_checkpoint_file(path: 'str | os.PathLike[str]') -> Any:
    """What a file holds, on the CPU: tensors, plain containers and what mmengine's runner writes, and nothing else.

    Raises:
        UnpicklingError: If there is something else in it, before any of it runs.
    """
    import torch

    allow_mmengine_checkpoints()
    if hasattr(torch.serialization, 'add_safe_globals'):  # torch 2.4
        return torch.load(path, map_location='cpu', weights_only=True)
    return torch.load(path, map_location='cpu', pickle_module=_pickle_of_old_torch(), weights_only=False)


@functools.cache
def _pickle_of_old_torch() -> Any:
    import torch
    from torch import _weights_only_unpickler

    from .restricted_pickle import restricted_to

    known = {f'{known.__module__}.{known.__qualname__}': known for known in _safe_globals()}
    stateful = tuple(known for known in _safe_globals() if isinstance(known, type))
    return restricted_to(
        {**_weights_only_unpickler._get_allowed_globals(), **known}, (torch.Tensor, torch.nn.Parameter, *stateful)
    )


def _make_loader_of_forks_safe() -> None:
    from mmengine.runner import checkpoint

    if hasattr(checkpoint, '_safe_torch_load'):  # mmengine of the forks, 0.10.8
        checkpoint._safe_torch_load = _load_weights_only


def _load_weights_only(file: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
    """Reads a checkpoint as torch does by default since 2.6, whatever else a caller leaves open."""
    import torch

    return torch.load(file, map_location=map_location, weights_only=weights_only is not False)


@functools.cache
def _safe_globals() -> tuple[Any, ...]:
    """Classes and stand-ins, each found by torch under its ``__module__`` and ``__qualname__``."""
    import numpy as np
    from mmengine.logging import HistoryBuffer

    # The unpickler sets the state only of objects whose exact class is listed; NumPy has a class a dtype.
    number_types = {type(np.dtype(code)) for code in NUMBER_CODES}
    return (
        HistoryBuffer,
        np.ndarray,
        *number_types,
        _known_as('builtins', 'getattr', _statistics_method),
        _known_as('numpy', 'dtype', _number_dtype),
        *(_known_as(module, '_reconstruct', _empty_array) for module in MULTIARRAY),
        *(_known_as(module, 'scalar', _number) for module in MULTIARRAY),
    )


def _known_as(module: str, name: str, function: Callable) -> Callable:
    """A function that the unpickler takes for ``module.name``."""

    @functools.wraps(function)
    def stand_in(*args: Any) -> Any:
        return function(*args)

    stand_in.__module__, stand_in.__name__, stand_in.__qualname__ = module, name, name
    return stand_in


def _statistics_method(owner: Any, name: Any) -> Callable:
    from mmengine.logging import HistoryBuffer

    if owner is HistoryBuffer and isinstance(name, str) and name in STATISTICS:
        return HistoryBuffer.__dict__[name]
    raise UnpicklingError(f'the file asks for attribute {name!r} of {owner!r}, which no mmengine checkpoint needs')


def _number_dtype(code: Any, *copy_flags: Any) -> Any:
    """A built-in number type; the flags of the pickle would ask for a copy, whose state can be changed."""
    import numpy as np

    if isinstance(code, str) and len(code) <= 3 and np.dtype(code).kind in NUMBER_KINDS:
        return np.dtype(code)
    raise UnpicklingError(f'the file holds a NumPy array of type {code!r}, and only numbers are allowed')


def _empty_array(subtype: Any, shape: Any, code: Any) -> Any:
    import numpy as np

    if subtype is np.ndarray:
        return np.ndarray((0,), np.int8)  # its state, with shape and type, comes next
    raise UnpicklingError(f'the file holds an array of class {subtype!r}, and only numpy.ndarray is allowed')


def _number(dtype: Any, data: Any) -> Any:
    import numpy as np

    if isinstance(dtype, np.dtype) and dtype.kind in NUMBER_KINDS and isinstance(data, bytes):
        return np.frombuffer(data, dtype, count=1)[0]
    raise UnpicklingError(f'the file holds a NumPy scalar of type {dtype!r}, and only numbers are allowed')


@functools.cache
def run_mmcv_ops_in_float32() -> None:
    """Let mmcv's operators take bfloat16: they compute in float32 and give bfloat16 back, gradients too.

    Other types go through as before. Without compiled operators (mmcv-lite) it does nothing.
    """
    for module_name, functions in WITHOUT_BFLOAT16.items():
        try:
            module = importlib.import_module(f'mmcv.ops.{module_name}')
        except ImportError:
            return
        for name in functions:
            if hasattr(module, name):
                _widen(getattr(module, name))


def _widen(function: Any) -> None:
    """Change an autograd function in place: its users hold on to ``function.apply``."""
    import torch

    def narrow(values: tuple[Any, ...]) -> bool:
        return any(isinstance(value, torch.Tensor) and value.dtype is torch.bfloat16 for value in values)

    def convert(value: Any, source: torch.dtype, target: torch.dtype) -> Any:
        return value.to(target) if isinstance(value, torch.Tensor) and value.dtype is source else value

    forward, backward = function.forward, function.backward

    @functools.wraps(forward)
    def wide_forward(ctx: Any, *args: Any) -> Any:
        if not narrow(args):
            return forward(ctx, *args)
        out = forward(ctx, *(convert(arg, torch.bfloat16, torch.float32) for arg in args))
        if isinstance(out, tuple):
            return tuple(convert(value, torch.float32, torch.bfloat16) for value in out)
        return convert(out, torch.float32, torch.bfloat16)

    @functools.wraps(backward)
    def wide_backward(ctx: Any, *grads: Any) -> Any:
        return backward(ctx, *(convert(grad, torch.bfloat16, torch.float32) for grad in grads))

    function.forward, function.backward = staticmethod(wide_forward), staticmethod(wide_backward)


def compute_pgd_losses_in_float32() -> None:
    """Let mmdet3d's PGD train under autocast: the losses of its head leave it and take float32.

    They write values of half precision into float32 targets, which torch refuses. It may be called any number of
    times. Where the head has not been imported it does nothing, so call it when the model is built.
    """
    head = getattr(sys.modules.get('mmdet3d.models.dense_heads'), 'PGDHead', None)
    if head is not None and not hasattr(head.loss_by_feat, '__wrapped__'):
        head.loss_by_feat = _outside_autocast(head.loss_by_feat)


def _outside_autocast(method: Callable) -> Callable:
    import torch

    def widen(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
        return type(value)(map(widen, value)) if isinstance(value, list | tuple) else value

    @functools.wraps(method)
    def wide_method(self: Any, *args: Any, **kwargs: Any) -> Any:
        device = next(self.parameters()).device.type
        with torch.autocast(device, enabled=False):
            return method(self, *map(widen, args), **{key: widen(value) for key, value in kwargs.items()})

    return wide_method
