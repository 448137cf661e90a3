import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sparsevit_mm.ops import forget_packed, linear, linear_kernel, weight_kernel, weights

ONEDNN = linear._known_to_onednn(torch.float32)
needs_onednn = pytest.mark.skipif(not ONEDNN, reason='this torch has no packed linear layers of oneDNN')


@pytest.fixture(autouse=True)
def fast_onednn(monkeypatch):
    """Where oneDNN is the slower one its kernels are tested nevertheless."""
    monkeypatch.setattr(linear, '_faster_by_onednn', lambda dtype: True)


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Linear(24, 40)


@pytest.fixture
def rows():
    return torch.randn(3, 50, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('act', [None, nn.GELU(), nn.GELU('tanh'), nn.ReLU(), nn.SiLU()])
@pytest.mark.parametrize('bias', [True, False])
def test_a_kernel_is_the_layer_with_its_activation(rows, act, bias):
    layer = nn.Linear(24, 40, bias=bias)
    with torch.no_grad():
        expected = layer(rows) if act is None else act(layer(rows))
        kernel = linear_kernel(layer, rows)
        assert kernel.packed is ONEDNN
        torch.testing.assert_close(kernel(rows, act), expected, atol=1e-5, rtol=1e-5)


def test_a_convolution_of_one_pixel_is_run_on_rows(rows):
    conv = nn.Conv2d(24, 40, 1)
    expected = F.linear(rows, conv.weight.flatten(1), conv.bias)
    torch.testing.assert_close(linear_kernel(conv, rows)(rows), expected)
    with torch.no_grad():
        torch.testing.assert_close(linear_kernel(conv, rows)(rows), expected, atol=1e-5, rtol=1e-5)


@needs_onednn
def test_a_weight_can_be_arranged(rows):
    weight = nn.Parameter(torch.randn(40, 24))
    expected = F.linear(rows, weight.flip(1))
    torch.testing.assert_close(weight_kernel(weight, None, rows, lambda w: w.flip(1))(rows), expected)
    with torch.no_grad():
        kernel = weight_kernel(weight, None, rows, lambda w: w.flip(1))
        assert kernel.packed
        torch.testing.assert_close(kernel(rows), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not linear._known_to_onednn(torch.bfloat16), reason='oneDNN computes no bfloat16 here')
def test_autocast_computes_in_its_dtype(layer, rows):
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        kernel = linear_kernel(layer, rows)
        out = kernel(rows)
        assert kernel.packed and out.dtype == torch.bfloat16
        torch.testing.assert_close(out, layer(rows), atol=0.03, rtol=0.03)


def test_gradients_observers_and_hooks_get_the_layer_itself(layer, rows):
    assert not linear_kernel(layer, rows).packed
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            kernel = linear_kernel(layer, rows)
            kernel(rows)
        assert not kernel.packed and counter.get_total_flops() == 2 * 150 * 24 * 40
        assert not linear_kernel(layer, rows.double()).packed
        seen = []
        layer.register_forward_hook(lambda *args: seen.append(1))
        linear_kernel(layer, rows)(rows)
        assert seen == [1]
        other = nn.Linear(24, 40)
        mapped = torch.vmap(lambda x: linear_kernel(other, x)(x))(rows)
        torch.testing.assert_close(mapped, other(rows))


@needs_onednn
@pytest.mark.parametrize(('capability', 'packed'), [('AVX2', False), ('AVX512', True)])
def test_float32_stays_with_pytorch_on_processors_with_avx2(layer, rows, capability, packed, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: capability)
    conv, act = nn.Conv2d(24, 40, 1), nn.GELU()
    with torch.no_grad():
        kernel = linear_kernel(layer, rows)
        assert kernel.packed is packed and linear_kernel(conv, rows).packed is packed
        torch.testing.assert_close(kernel(rows, act), act(layer(rows)), atol=1e-5, rtol=1e-5)
        # Packed, a weight that has to be arranged is not arranged anew in every pass.
        assert weight_kernel(layer.weight, None, rows, lambda weight: weight.flip(1)).packed


def test_hooks_on_the_backward_pass_of_a_layer_run(layer, rows):
    seen = []
    layer.register_full_backward_hook(lambda *args: seen.append(1))
    linear_kernel(layer, rows)(rows).sum().backward()
    assert seen == [1]


def test_a_default_device_does_not_matter(layer, rows):
    weights._places.cache_clear()
    linear._known_to_onednn.cache_clear()
    with torch.no_grad(), torch.device('meta'):
        kernel = linear_kernel(layer, rows)
    assert kernel.packed is ONEDNN
    with torch.no_grad():
        torch.testing.assert_close(kernel(rows), layer(rows), atol=1e-5, rtol=1e-5)


def test_another_kind_of_layer_is_called_itself(rows):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    layer = Doubled(24, 40)
    with torch.no_grad():
        torch.testing.assert_close(linear_kernel(layer, rows)(rows), 2 * F.linear(rows, layer.weight, layer.bias))


def _by_optimizer(layer):
    layer.weight.grad = torch.ones_like(layer.weight)
    torch.optim.SGD([layer.weight], lr=0.1).step()


def _by_loading(layer):
    layer.load_state_dict(nn.Linear(24, 40).state_dict())


def _by_data(layer):
    layer.weight.data.lerp_(torch.zeros_like(layer.weight), 0.1)


def _by_data_of_a_row(layer):
    layer.weight.data[31] = 0


def _by_data_of_a_column(layer):
    layer.weight.data[:, 17] += 1


def _by_numpy(layer):
    layer.weight.detach().numpy()[:] *= 2


def _by_other_memory(layer):
    layer.weight.data = layer.weight.data + 1


def _by_another_parameter(layer):
    layer.weight = nn.Parameter(layer.weight.detach() + 1)


CHANGES = [
    _by_optimizer,
    _by_loading,
    _by_data,
    _by_data_of_a_row,
    _by_data_of_a_column,
    _by_numpy,
    _by_other_memory,
    _by_another_parameter,
]


@needs_onednn
@pytest.mark.parametrize('change', CHANGES)
def test_a_changed_weight_is_seen(layer, rows, change):
    with torch.no_grad():
        before = linear_kernel(layer, rows)(rows)
    change(layer)
    with torch.no_grad():
        after = linear_kernel(layer, rows)(rows)
        torch.testing.assert_close(after, layer(rows), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before, after)


@needs_onednn
def test_a_weight_is_packed_once_and_let_go(layer, rows, monkeypatch):
    packs = []
    pack = weights._pack
    monkeypatch.setattr(weights, '_pack', lambda *args: packs.append(1) or pack(*args))

    def run():
        with torch.no_grad():
            linear_kernel(layer, rows)(rows)
        return len(packs)

    assert [run(), run()] == [1, 1]
    linear_kernel(layer, rows)  # with gradients, as in training
    assert run() == 2
    forget_packed(layer.parameters())
    assert run() == 3
    copied = pickle.loads(pickle.dumps(copy.deepcopy(layer)))
    torch.testing.assert_close(copied.weight, layer.weight)
    kept = len(weights._KEPT)
    del layer.weight
    assert len(weights._KEPT) == kept - 1


@needs_onednn
def test_what_inference_mode_packed_serves_outside_of_it(layer, rows):
    with torch.inference_mode():
        first = linear_kernel(layer, rows)(rows)
    with torch.no_grad():
        torch.testing.assert_close(linear_kernel(layer, rows)(rows), first)
    layer(rows).sum().backward()
    with torch.inference_mode():
        made = nn.Linear(24, 40)
        torch.testing.assert_close(linear_kernel(made, rows)(rows), made(rows), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('shape', [(4, 4), (7, 3), (3, 7), (1, 5), (5, 1), (12, 8)])
def test_a_sample_has_a_value_of_every_row_and_column(shape):
    places = weights._places(*shape)
    assert set((places // shape[1]).tolist()) == set(range(shape[0]))
    assert set((places % shape[1]).tolist()) == set(range(shape[1]))
