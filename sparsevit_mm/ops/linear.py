"""Linear layers as a processor computes them fastest in inference.

PyTorch computes a float32 linear layer by MKL, which some processors with AVX-512 run at less than half their speed.
oneDNN, which PyTorch brings along, is fast on all of them, and takes an activation into the product; so in inference
the linear layers of blocks go there, in code that ``torch.compile`` makes by an operator of their own. Where there is
no more than AVX2, oneDNN is the slower one, and float32 stays with PyTorch.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from mmcv.cnn import Linear
from torch import Tensor, nn

from ..compat import autocast_dtype, cpu_has_bfloat16, has_custom_operators, has_global_hooks, is_compiling_to_run
from .cache import is_tracing
from .observers import is_observed
from .weights import forget_packed, packed_weight

__all__ = ['LinearKernel', 'has_hooks', 'inference_dtype', 'linear_kernel', 'weight_kernel']

_FORWARDS = (nn.Linear.forward, Linear.forward)


class LinearKernel:
    """A linear layer that is ready to be run on many rows.

    Args:
        plain: Computes ``[..., C] -> [..., C']`` where oneDNN does not.
        weight: ``[C', C]`` as ``operator`` takes it; ``None`` if ``plain`` is to be used.
        bias: ``[C']``, if there is one.
        dtype: Of the arithmetic.
        operator: Multiplies rows with the weight and applies an activation of oneDNN's, by default with a weight in
            oneDNN's order.
    """

    def __init__(
        self,
        plain: Callable[[Tensor], Tensor] | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        dtype: torch.dtype | None = None,
        operator: Callable[[Tensor, Tensor, Tensor | None, str, str], Tensor] | None = None,
    ) -> None:
        self._plain, self._weight, self._bias, self._dtype = plain, weight, bias, dtype
        self._operator = operator or _multiply

    @property
    def packed(self) -> bool:
        """Whether oneDNN computes it."""
        return self._weight is not None

    def __call__(self, x: Tensor, act: nn.Module | None = None) -> Tensor:
        """``[..., C] -> [..., C']``, with the activation behind it if one is given."""
        if not self.packed:
            x = self._plain(x)
            return x if act is None else act(x)
        name, algorithm = _fused_name(act)
        x = self._operator(x.to(self._dtype), self._weight, self._bias, name, algorithm)
        return x if act is None or name != 'none' else act(x)


def linear_kernel(layer: nn.Module, x: Tensor) -> LinearKernel:
    """The fastest way to run a layer on rows like these.

    Args:
        layer: An ``nn.Linear``, or a convolution of 1x1 that is to be run on rows. A module of another kind, or one
            with hooks, is called itself.
        x: Features, for their device and dtype.
    """
    if isinstance(layer, nn.Conv2d):
        return weight_kernel(layer.weight, layer.bias, x, _flat)
    if type(layer).forward not in _FORWARDS or has_hooks(layer):
        return LinearKernel(layer)
    kernel = weight_kernel(layer.weight, layer.bias, x)
    # The layer and not its weight alone, for hooks on its backward pass and whatever else belongs to calling it.
    return kernel if kernel.packed else LinearKernel(layer)


def weight_kernel(
    weight: Tensor, bias: Tensor | None, x: Tensor, arrange: Callable[[Tensor], Tensor] | None = None
) -> LinearKernel:
    """The same for parameters.

    Args:
        weight: ``[C', C]``.
        bias: ``[C']``, if there is one.
        x: As for :func:`linear_kernel`.
        arrange: Makes the matrix ``[C', C]`` of a parameter that is none, always the same for a parameter.
    """
    if arrange in (None, _flat) and (dtype := _compiled_dtype(x)) is not None:
        return LinearKernel(None, weight, bias, dtype, _compiled_multiply)
    dtype = inference_dtype(x)
    if dtype is None and torch.is_grad_enabled() and not is_tracing():
        forget_packed([weight])
    if dtype is None or (arrange in (None, _flat) and not _faster_by_onednn(dtype)):
        return LinearKernel(lambda rows: F.linear(rows, weight if arrange is None else arrange(weight), bias))
    bias = None if bias is None else bias.detach().to(dtype)
    return LinearKernel(None, packed_weight(weight, dtype, arrange), bias, dtype)


def _flat(weight: Tensor) -> Tensor:
    return weight.flatten(1)


def inference_dtype(x: Tensor) -> torch.dtype | None:
    """The dtype that kernels made for inference on the CPU compute features ``x`` in, ``None`` where there are none.

    That is where gradients are wanted, on other devices, in other dtypes, and wherever something looks at the
    operators.
    """
    if x.device.type != 'cpu' or torch.is_grad_enabled() or is_observed() or type(x) is not Tensor:
        return None
    dtype = autocast_dtype('cpu') or x.dtype
    return dtype if _known_to_onednn(dtype) else None


def has_hooks(*modules: nn.Module) -> bool:
    """Whether somebody wants to see these modules, or any module, being called."""
    if has_global_hooks():
        return True
    return any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def _fused_name(act: nn.Module | None) -> tuple[str, str]:
    """What oneDNN calls an activation and its variant; ``'none'`` if it is to be computed behind the product."""
    if act is None or has_hooks(act):
        return 'none', ''
    if type(act) is nn.GELU:
        return 'gelu', act.approximate
    return ('relu', '') if type(act) is nn.ReLU else ('none', '')


@cache
def _known_to_onednn(dtype: torch.dtype) -> bool:
    """Whether this build of torch has the operators, and they compute what they should."""
    try:
        if dtype == torch.bfloat16 and not cpu_has_bfloat16():
            return False
        if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
            return False
        with torch.no_grad(), torch.autocast('cpu', enabled=False):
            x = torch.linspace(-1, 1, 64 * 16, device='cpu').view(64, 16).to(dtype)
            weight = torch.linspace(1, -1, 32 * 16, device='cpu').sin().view(32, 16).to(dtype)
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, 64)
            found = torch.ops.mkldnn._linear_pointwise(x, packed, None, 'gelu', [], 'none')
            expected = F.gelu(F.linear(x.float(), weight.float()))
            return torch.allclose(found.float(), expected, atol=0.05 if dtype == torch.bfloat16 else 1e-5)
    except (AttributeError, RuntimeError):
        return False


def _faster_by_onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN computes linear layers faster than PyTorch does without it.

    With AVX2 (EPYC, family 25 model 1) its float32 products run at 0.9 of the speed of MKL's, and with a GELU in them
    at 0.65 of that of MKL's with PyTorch's GELU behind.
    """
    return dtype != torch.float32 or torch.backends.cpu.get_cpu_capability() != 'AVX2'


def _compiled_dtype(x: Tensor) -> torch.dtype | None:
    """What :func:`inference_dtype` would say in a trace that is compiled to run here; for linear layers alone."""
    if not is_compiling_to_run() or _compiled_multiply is None:
        return None
    if x.device.type != 'cpu' or torch.is_grad_enabled():
        return None
    dtype = autocast_dtype('cpu') or x.dtype
    return dtype if _known_to_onednn_in_traces(dtype) else None


@torch.compiler.assume_constant_result
def _known_to_onednn_in_traces(dtype: torch.dtype) -> bool:
    return _known_to_onednn(dtype) and _faster_by_onednn(dtype)


def _multiply(rows: Tensor, weight: Tensor, bias: Tensor | None, act: str, algorithm: str) -> Tensor:
    """Rows ``[..., C]`` times a weight ``[C', C]`` in oneDNN's order, ``[..., C']``, with an activation behind it."""
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, act, [], algorithm)


def _register_compiled_multiply() -> Callable[[Tensor, Tensor, Tensor | None, str, str], Tensor] | None:
    """:func:`_multiply` as an operator for traces, if torch has such, which brings the weight into that order itself.

    A trace takes no tensor that is in oneDNN's order already.
    """
    if not has_custom_operators():
        return None

    @torch.library.custom_op('sparsevit_mm::linear', mutates_args=(), device_types='cpu')
    def linear(rows: Tensor, weight: Tensor, bias: Tensor | None, act: str, algorithm: str) -> Tensor:
        bias = None if bias is None else bias.to(rows.dtype)
        return _multiply(rows, packed_weight(weight, rows.dtype), bias, act, algorithm)

    @linear.register_fake
    def _(rows: Tensor, weight: Tensor, bias: Tensor | None, act: str, algorithm: str) -> Tensor:
        return rows.new_empty((*rows.shape[:-1], weight.shape[0]))

    return linear


_compiled_multiply = _register_compiled_multiply()
