import pytest
import torch
import torch.nn.functional as F

from sparsevit_mm.ops import attend, attention


def parts(windows=6, heads=3, tokens=9, dims=8, keys=None):
    generator = torch.Generator().manual_seed(0)
    made = [
        torch.randn(windows, heads, count, dims, generator=generator)
        for count in (tokens, keys or tokens, keys or tokens)
    ]
    return made


def reference(q, k, v, bias=None, scale=None):
    scores = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scale is None else scale)
    scores = scores if bias is None else scores + bias
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


@pytest.mark.parametrize('grad', [False, True])
@pytest.mark.parametrize('keys', [None, 11])
@pytest.mark.parametrize('scale', [None, 0.3])
def test_it_is_softmax_attention(grad, keys, scale):
    q, k, v = parts(keys=keys)
    bias = torch.randn(1, 3, 9, keys or 9)
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(attend(q, k, v, scale=scale), reference(q, k, v, scale=scale))
        torch.testing.assert_close(attend(q, k, v, bias, scale=scale), reference(q, k, v, bias, scale))


@pytest.mark.parametrize('grad', [False, True])
def test_each_window_gets_the_bias_of_its_kind(grad):
    q, k, v = parts()
    bias, kinds = torch.randn(4, 3, 9, 9), torch.tensor([0, 3, 1, 1, 2, 0])
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(attend(q, k, v, bias, kinds), reference(q, k, v, bias[kinds]))


@torch.no_grad()
def test_heads_a_few_at_a_time_change_nothing(monkeypatch):
    q, k, v = parts()
    monkeypatch.setattr(attention, 'SCORE_BYTES', 2 * 9 * 9 * 4)
    torch.testing.assert_close(attend(q, k, v), reference(q, k, v))


@torch.no_grad()
@pytest.mark.parametrize('keys', [None, 11])
def test_queries_a_few_at_a_time_change_nothing(monkeypatch, keys):
    q, k, v = parts(keys=keys)
    monkeypatch.setattr(attention, 'SCORE_BYTES', 4 * 11 * 4)
    torch.testing.assert_close(attend(q, k, v), reference(q, k, v))


@torch.no_grad()
def test_half_precision_stays_near():
    q, k, v = parts(tokens=150)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = attend(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), reference(q, k, v), atol=0.03, rtol=0.05)


def test_long_sequences_and_gradients_take_the_fused_one(monkeypatch):
    calls = []
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(F, 'scaled_dot_product_attention', lambda *a, **k: calls.append(1) or fused(*a, **k))
    attend(*parts())
    with torch.no_grad():
        attend(*parts(tokens=attention.SHORT + 1))
        assert len(calls) == 2
        attend(*parts())
        assert len(calls) == 2 or not attention.inference_dtype(torch.zeros(1))


def learning(parts_, bias):
    for part in (*parts_, bias):
        part.requires_grad_()
    return parts_


@pytest.mark.parametrize('kinds', [None, [0, 3, 1, 1, 2, 0]])
def test_gradients_are_those_of_softmax_attention(kinds):
    kinds = None if kinds is None else torch.tensor(kinds)
    bias = torch.randn(1 if kinds is None else 4, 3, 9, 9)
    inputs = (*learning(parts(), bias), bias)
    weight = torch.randn(6, 9, 24)
    found = torch.autograd.grad((attend(*inputs, kinds) * weight).sum(), inputs)
    wanted = reference(*inputs[:3], bias if kinds is None else bias[kinds])
    for gradient, expected in zip(found, torch.autograd.grad((wanted * weight).sum(), inputs)):
        torch.testing.assert_close(gradient, expected)


def test_learning_a_bias_takes_no_unfused_attention_of_torch(monkeypatch):
    """It looks for rows of which everything is masked, which takes a tenth of a step."""
    monkeypatch.setattr(F, 'scaled_dot_product_attention', lambda *a, **k: pytest.fail('it is taken'))
    bias = torch.randn(1, 3, 9, 9)
    attend(*learning(parts(), bias), bias).sum().backward()
    assert bias.grad is not None


def test_half_precision_takes_no_fused_attention_unless_it_is_long(monkeypatch):
    """It is made for float32; beyond, scores would take much memory."""
    taken = []
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(F, 'scaled_dot_product_attention', lambda *a, **k: taken.append(a[0]) or fused(*a, **k))
    monkeypatch.setattr(attention, 'LEARNT', 9)
    exact = parts()
    half = [part.bfloat16().requires_grad_() for part in exact]
    torch.testing.assert_close(attend(*half).float(), reference(*exact), atol=0.03, rtol=0.05)
    assert not taken
    for some in (half, [part.requires_grad_() for part in parts(tokens=10)]):
        attend(*some[:1], *(torch.cat([part, part], 2) for part in some[1:]))
    assert len(taken) == 2


def test_attention_weights_are_dropped_in_training():
    bias = torch.zeros(1, 3, 9, 9)
    q, k, v = learning(parts(), bias)
    torch.manual_seed(0)
    some = attend(q, k, v, bias, dropout=0.5)
    assert not torch.allclose(some, reference(q, k, v, bias))
    mean = torch.stack([attend(q, k, v, bias, dropout=0.5) for _ in range(2000)]).mean(0)
    torch.testing.assert_close(mean, reference(q, k, v, bias), atol=0.15, rtol=0.0)
