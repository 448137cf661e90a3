"""MACs counted on what ran, by torch's flop counter."""

import math
from collections.abc import Callable

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..compat import aten_operators
from .conditions import check_image_shape, measuring, random_images

__all__ = ['count_executed_macs', 'measure_macs']

Shape = tuple[int, ...]


def _attention_flops(query: Shape, key: Shape, value: Shape, *args: object, **kwargs: object) -> int:
    # [B, heads, N, d] @ [B, heads, d, M], then [B, heads, N, M] @ [B, heads, M, d]
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _fused_self_attention_flops(
    query: Shape, key: Shape, value: Shape, width: int, *args: object, **kwargs: object
) -> int:
    # nn.MultiheadAttention in evaluation: three projections in, both matmuls, one projection out. query: [B, N, C]
    tokens = query[0] * query[1]
    return 2 * tokens * width * (4 * width + 2 * key[1])


def _matvec_flops(matrix: Shape, vector: Shape, *args: object, **kwargs: object) -> int:
    return 2 * math.prod(matrix)


def _addmv_flops(bias: Shape, matrix: Shape, vector: Shape, *args: object, **kwargs: object) -> int:
    return 2 * math.prod(matrix)


def _addbmm_flops(bias: Shape, left: Shape, right: Shape, *args: object, **kwargs: object) -> int:
    # [B, n, k] @ [B, k, m], summed over B
    return 2 * math.prod(left) * right[-1]


# Operators that torch's table does not list, and that so would count as nothing; CPU attention is the one that
# matters. What an older torch does not have is left out.
_MISSED = {
    '_scaled_dot_product_flash_attention_for_cpu': _attention_flops,
    '_scaled_dot_product_fused_attention_overrideable': _attention_flops,
    '_native_multi_head_attention': _fused_self_attention_flops,
    'mv': _matvec_flops,
    'dot': _matvec_flops,
    'addmv': _addmv_flops,
    'addbmm': _addbmm_flops,
}


def count_executed_macs(call: Callable[[], object]) -> int:
    """MACs of everything that a call runs.

    Matrix products, attention and convolutions count, one MAC for a multiplication with its addition. Norms,
    softmax, activations and sums do not, nor do operators of compiled extensions (NMS, RoIAlign).
    """
    with FlopCounterMode(display=False, custom_mapping=aten_operators(_MISSED)) as counter:
        call()
    return counter.get_total_flops() // 2


def measure_macs(backbone: nn.Module, shape: tuple[int, int]) -> int:
    """MACs of one image, counted on what ran.

    The convention is that of :func:`count_macs` with ``convention='executed'``: matrix products and convolutions,
    at the backbone's present sparsity, with patch embedding and selectors. The backbone runs once on noise, in
    evaluation mode on its own device, and is left as it was.

    Args:
        backbone: Any module that takes images ``[B, C, H, W]``, one of ours or not.
        shape: Height and width of the image in pixels.

    Raises:
        ValueError: If the shape is not two positive integers.
    """
    shape = check_image_shape(shape)
    with measuring(backbone):
        images = random_images(backbone, shape)
        return count_executed_macs(lambda: backbone(images))
