import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sparsevit_mm.cost.conditions import autocast
from sparsevit_mm.cost.counter import count_executed_macs
from sparsevit_mm.cost.roof import Product, record_products, roof_call
from sparsevit_mm.models import SparseSwin

CPU = torch.device('cpu')
TINY = dict(embed_dims=16, num_heads=(1, 2), depths=(2, 2), strides=(4, 2), out_indices=(0, 1))


def test_products_are_noted_in_their_order():
    layer, plain = nn.Linear(8, 4), nn.Linear(4, 6, bias=False)
    query, key = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4)

    def call() -> None:
        plain(layer(torch.randn(10, 8)))
        torch.baddbmm(torch.zeros(1), torch.randn(2, 3, 4), torch.randn(2, 4, 5))
        F.scaled_dot_product_attention(query, key, key)
        torch.randn(3, 3).softmax(-1) + 1

    with torch.no_grad():
        products = record_products(call)
    assert products == [
        Product('linear', (10, 8, 4), torch.float32, bias=True),
        Product('linear', (10, 4, 6), torch.float32),
        Product('batched', (2, 3, 4, 5), torch.float32),
        Product('batched', (6, 5, 4, 7), torch.float32),
        Product('batched', (6, 5, 7, 4), torch.float32),
    ]
    assert [product.macs for product in products] == [320, 240, 120, 840, 840]


@pytest.mark.parametrize('sparsity', [0.0, 0.6])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_a_backbone_is_its_products_and_the_patch_embedding(sparsity, dtype):
    backbone = SparseSwin(**TINY, sparsity=sparsity).eval()
    images = torch.randn(2, 3, 64, 96)

    def call() -> None:
        with torch.no_grad(), autocast(CPU, dtype):
            backbone(images)

    products = record_products(call)
    assert {product.dtype for product in products} == {getattr(torch, dtype)}
    embedding = 2 * 16 * 24 * (3 * 4 * 4) * 16
    macs = sum(product.macs for product in products)
    assert macs + embedding == count_executed_macs(call)
    with FlopCounterMode(display=False):  # where something looks on, linear layers are run by what it knows
        roof = roof_call(products, CPU)
    assert count_executed_macs(roof) == macs


def test_the_roof_runs_by_the_kernel_of_inference_and_leaves_the_generator():
    products = [
        Product('linear', (10, 8, 4), torch.float32, bias=True),
        Product('linear', (10, 8, 4), torch.bfloat16),
        Product('batched', (2, 3, 4, 5), torch.bfloat16),
    ]
    state = torch.get_rng_state()
    call = roof_call(products, CPU)
    call()
    assert torch.equal(torch.get_rng_state(), state)
    ran = []
    with torch.autograd.profiler.profile() as recorded:
        call()
    ran = [event.name for event in recorded.function_events]
    assert ran.count('aten::bmm') == 1 and not any('softmax' in name or name == 'to' for name in ran)
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert ran.count('mkldnn::_linear_pointwise') == 2


def test_attention_on_a_gpu_is_one_product():
    product = Product('attention', (2, 3, 5, 4, 7, 6), torch.float32)
    assert product.macs == 2 * 3 * 5 * 7 * (4 + 6)
    roof_call([product], CPU)()
