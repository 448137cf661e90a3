"""How fast a backbone could be if it were nothing but its matrix products."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..ops import linear_kernel, rows_per_chunk
from .conditions import autocast

__all__ = ['ROOF_NOTE', 'Product', 'record_products', 'roof_call']

ROOF_NOTE = (
    'Roof is the time of the matrix products of a forward alone, those of linear layers and of attention: the same '
    'shapes in the same order and dtype, each by the fastest kernel at hand, on ready tensors and weights. Not in it '
    'are convolutions, softmax, norms, activations, sums, and the gathering, moving and casting of data. Distance is '
    'the latency over it.'
)
# Fused attention by whatever kernel torch chooses. The first three arguments of all are query, key and value.
_ATTENTION = '_scaled_dot_product_'


@dataclass(frozen=True)
class Product:
    """Matrix products of one operator.

    Args:
        kind: ``linear``, ``[n, k] @ [k, m]`` with the right side a weight; ``batched``, so many of them at once, with
            no weight; ``attention``, fused on a GPU.
        shape: ``(n, k, m)``; ``(B, n, k, m)``; ``(B, heads, N, d, M, d')`` for ``N`` queries and ``M`` keys.
        dtype: Of the operands.
        bias: Whether a linear one adds a bias.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    bias: bool = False

    @property
    def macs(self) -> int:
        """Multiplications, each with its addition."""
        if self.kind != 'attention':
            return prod(self.shape)
        batch, heads, queries, dims, keys, out = self.shape
        return batch * heads * queries * keys * (dims + out)


class _Recorder(TorchDispatchMode):
    """Notes the matrix products that pass by."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []

    def __torch_dispatch__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> object:
        self.products += _products(func.overloadpacket.__name__, args)
        return func(*args, **(kwargs or {}))


def record_products(call: Callable[[], object]) -> list[Product]:
    """The matrix products that a call runs, in their order."""
    with _Recorder() as recorder:
        call()
    return recorder.products


def _products(name: str, args: tuple) -> list[Product]:
    if name in ('mm', 'addmm'):
        left, right = args[-2:]
        return [Product('linear', (*left.shape, right.shape[1]), left.dtype, bias=name == 'addmm')]
    if name in ('bmm', 'baddbmm'):
        left, right = args[-2:]
        return [Product('batched', (*left.shape, right.shape[2]), left.dtype)]
    if name.startswith(_ATTENTION) and not name.endswith('_backward'):
        query, key, value = args[:3]
        (*batch, queries, dims), keys, out = query.shape, key.shape[-2], value.shape[-1]
        if query.device.type == 'cuda':
            return [Product('attention', (*batch, queries, dims, keys, out), query.dtype)]
        many = prod(batch)
        return [
            Product('batched', (many, queries, dims, keys), query.dtype),
            Product('batched', (many, queries, keys, out), query.dtype),
        ]
    return []


def roof_call(products: Sequence[Product], device: torch.device) -> Callable[[], object]:
    """A call that runs products of these shapes and nothing else.

    Operands are made here, once for each shape: weights in the order that the kernel wants, activations all on the same
    memory, so that they take no more than the largest of them.

    Args:
        products: In the order to run them.
        device: Where.
    """
    memory = _Memory(products, device)
    with torch.no_grad(), autocast(device, 'float32'):
        ready = {product: _ready(product, memory, device) for product in Counter(products)}
    calls = [ready[product] for product in products]

    def call() -> None:
        with torch.no_grad(), autocast(device, 'float32'):
            for each in calls:
                each()

    return call


class _Memory:
    """Normal noise that all activations of a dtype are views of."""

    def __init__(self, products: Sequence[Product], device: torch.device) -> None:
        sizes: dict[torch.dtype, int] = {}
        for product in products:
            largest = max(prod(shape) for shape in _operands(product))
            sizes[product.dtype] = max(sizes.get(product.dtype, 0), largest)
        generator = torch.Generator().manual_seed(0)
        self._noise = {
            dtype: [torch.randn(size, generator=generator).to(device, dtype) for _ in range(3)]
            for dtype, size in sizes.items()
        }

    def operands(self, product: Product) -> list[Tensor]:
        """Tensors of the shapes of a product, each on memory of its own."""
        return [
            noise[: prod(shape)].view(shape) for noise, shape in zip(self._noise[product.dtype], _operands(product))
        ]


def _operands(product: Product) -> list[tuple[int, ...]]:
    """Shapes of the activations that go into a product."""
    if product.kind == 'linear':
        return [product.shape[:2]]
    if product.kind == 'batched':
        many, rows, inner, columns = product.shape
        return [(many, rows, inner), (many, inner, columns)]
    batch, heads, queries, dims, keys, out = product.shape
    return [(batch, heads, queries, dims), (batch, heads, keys, dims), (batch, heads, keys, out)]


def _ready(product: Product, memory: _Memory, device: torch.device) -> Callable[[], object]:
    """One product with its operands, by the fastest kernel there is for it."""
    operands = memory.operands(product)
    if product.kind == 'attention':
        return lambda: F.scaled_dot_product_attention(*operands)
    *_, inner, columns = product.shape
    if product.kind == 'batched':
        return _in_chunks(torch.bmm, operands, product.shape[1] * columns)
    layer = nn.utils.skip_init(nn.Linear, inner, columns, bias=product.bias, device=device, dtype=product.dtype)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return _in_chunks(linear_kernel(layer, *operands), operands, max(inner, columns))


def _in_chunks(function: Callable[..., Tensor], operands: Sequence[Tensor], width: int) -> Callable[[], object]:
    """A call of a product over chunks of what the first dimension of its operands counts, each of ``width`` numbers.

    Blocks run over chunks too: results of larger ones leave the caches, and would make the roof too easy.
    """
    chunk = rows_per_chunk(operands[0], width, least=1) or max(1, len(operands[0]))
    parts = list(zip(*(operand.split(chunk) for operand in operands)))

    def call() -> None:
        for part in parts:
            function(*part)

    return call
