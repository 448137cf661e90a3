"""The multi-head selector: the formulas of SPViT written down plainly, and what every selector must hold to."""

import pytest
import torch
import torch.nn.functional as F

from sparsevit_mm.cost import count_macs, measure_macs
from sparsevit_mm.models import DynamicConvNeXt, DynamicSwin, PrunedViT, SparseSwin
from sparsevit_mm.selectors import MultiHeadSelector

SELECTOR = dict(type='sparsevit_mm.MultiHeadSelector')


def selector(dims: int = 24, num_heads: int = 3, **kwargs) -> MultiHeadSelector:
    model = MultiHeadSelector(dims, num_heads, **kwargs)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.mark.parametrize('share_heads', [False, True])
def test_it_is_the_published_selector(share_heads):
    """Head by head over the living tokens: t_i, a_i, and their weighted mean."""
    model, x = selector(share_heads=share_heads), torch.randn(2, 7, 24)
    alive = torch.tensor([[1, 1, 0, 1, 0, 0, 1], [1, 1, 1, 1, 1, 1, 1]]).float()
    scores = model(x, alive)
    for image in range(2):
        heads = x[image].view(7, 3, 8)
        first, _, second, _ = model.head_weights
        a = torch.sigmoid(second(F.gelu(first(heads.mean(-1)))))  # [L, h]
        total = torch.zeros(7, 2)
        for i in range(3):
            own = 0 if share_heads else i
            z = F.layer_norm(heads[:, i], (8,), model.in_norm.weight[own], model.in_norm.bias[own])
            z = F.gelu(z @ model.in_proj.weight[own].T + model.in_proj.bias[own])
            shared = z[alive[image] == 1, 4:].mean(0).expand(7, -1)
            y = torch.cat([z[:, :4], shared], dim=-1)
            for j, layer in enumerate(model.out_proj):
                y = (F.gelu(y) if j else y) @ layer.weight[own].T + layer.bias[own]
            total += a[:, i : i + 1] * y.softmax(-1)
        stay = total[:, 0] / a.sum(-1)
        torch.testing.assert_close(torch.sigmoid(scores[image]), stay, rtol=1e-4, atol=1e-5)


def test_heads_have_weights_of_their_own_unless_shared():
    own, shared = selector(), selector(share_heads=True)
    assert own.in_proj.weight.shape == (3, 8, 8) and shared.in_proj.weight.shape == (1, 8, 8)
    # One network a head costs the same as one for all.
    assert own.count_macs(10) == shared.count_macs(10) == 10 * (3 * (8 * 8 + 8 * 4 + 4 * 2 + 2 * 2) + 2 * 3 * 1)


def test_an_image_is_scored_alone_and_in_float32():
    model, x = selector(), torch.randn(3, 5, 24)
    plain = model(x)
    torch.testing.assert_close(plain[:1], model(x[:1]))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(model(x), plain)
    assert model.bfloat16()(x.bfloat16()).dtype == torch.float32


def test_scores_are_finite_where_nothing_is_alive_and_where_heads_weigh_nothing():
    model = selector()
    assert model(torch.randn(1, 5, 24), torch.zeros(1, 5)).isfinite().all()
    model.head_weights[2].bias.data.fill_(-1e4)
    scores = model(torch.randn(1, 5, 24).requires_grad_())
    scores.sum().backward()
    assert scores.isfinite().all() and all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


BACKBONES = [
    (PrunedViT, dict(img_size=64, embed_dims=48, num_layers=3, num_heads=3, site_blocks=(1,)), 3),
    (SparseSwin, dict(embed_dims=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8)), 1),
    (DynamicSwin, dict(embed_dims=16, depths=(1, 1, 6, 1), num_heads=(1, 2, 4, 8)), 4),
    (DynamicConvNeXt, dict(arch=dict(depths=(1, 1, 6, 1), channels=(8, 16, 32, 40))), None),
]


@pytest.mark.parametrize('backbone, arguments, heads', BACKBONES, ids=[case[0].__name__ for case in BACKBONES])
def test_every_family_takes_it_with_the_heads_of_its_blocks(backbone, arguments, heads):
    config = SELECTOR if heads else SELECTOR | dict(num_heads=4)
    model = backbone(**arguments, selector=config, sparsity=0.5)
    model.init_weights()
    assert next(model.selectors()).num_heads == (heads or 4)
    assert count_macs(model, (256, 256)) == measure_macs(model, (256, 256))
    model.train()
    sum(out.square().mean() for out in model(torch.randn(2, 3, 256, 256))).backward()
    for name, parameter in next(model.selectors()).named_parameters():
        assert parameter.grad is not None, name
    assert set(model.keep_ratios) == set(model.sites)


def test_given_heads_count_more_than_those_of_the_block():
    config = SELECTOR | dict(num_heads=6)
    model = PrunedViT(img_size=64, embed_dims=48, num_layers=2, num_heads=3, site_blocks=(1,), selector=config)
    assert next(model.selectors()).num_heads == 6


@pytest.mark.parametrize(
    ('num_heads', 'message'),
    [
        (5, 'num_heads of MultiHeadSelector must divide the 24 channels of the features, got 5'),
        (None, 'must divide the 24 channels of the features, got None'),
        (0, 'got 0'),
        (12, 'num_heads=12 of MultiHeadSelector leaves 2 of 24 channels to a head, 4 at least.*6 heads or fewer'),
    ],
)
def test_wrong_heads_are_named(num_heads, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadSelector(24, num_heads)
