"""PrunedPiT: a PiT at sparsity 0, whole maps at every stride, and the files that it loads."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsevit_mm.cost import count_macs, measure_macs
from sparsevit_mm.models import PrunedPiT

TINY = dict(arch=dict(head_dims=(8, 8, 8), num_heads=(2, 4, 8), depths=(2, 6, 4), patch_size=16, stride=8), img_size=96)
LEARNED = dict(type='sparsevit_mm.MultiHeadSelector', noise=0)
SELECTORS = ('MultiHeadSelector', 'PredictorSelector', 'MagnitudeSelector', 'RandomSelector', 'ClassAttentionSelector')
BYPASSES = [
    dict(),
    dict(package='separate'),
    dict(unfold='reuse'),
    dict(bypass='reuse'),
    dict(bypass='reuse', reactivate=True),
    dict(reactivate=True),
]


def tiny(selector: str | dict = 'MultiHeadSelector', **kwargs) -> PrunedPiT:
    selector = dict(type=f'sparsevit_mm.{selector}') if isinstance(selector, str) else selector
    torch.manual_seed(0)
    model = PrunedPiT(**TINY | kwargs, selector=selector)
    model.init_weights()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


def plain(model: PrunedPiT, x: torch.Tensor) -> list[torch.Tensor]:
    """PiT as its paper has it, with the weights of a model, for images that fit its patches."""
    conv = model.patch_embed['conv']
    x = conv(x)
    x = x + F.interpolate(model.pos_embed, size=x.shape[2:], mode='bicubic', align_corners=False)
    cls, outs = model.cls_token.expand(len(x), -1, -1), []
    for i, blocks in enumerate(model.stages):
        batch, dims, height, width = x.shape
        tokens = torch.cat([cls, x.flatten(2).transpose(1, 2)], dim=1)
        for block in blocks:
            heads, attn = block.attn.num_heads, block.attn.attn
            y = F.layer_norm(tokens, (dims,), block.ln1.weight, block.ln1.bias, 1e-6)
            qkv = F.linear(y, attn.in_proj_weight, attn.in_proj_bias).view(batch, -1, 3, heads, dims // heads)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            y = (q @ k.transpose(-2, -1) * (dims // heads) ** -0.5).softmax(-1) @ v
            tokens = tokens + attn.out_proj(y.transpose(1, 2).reshape(batch, -1, dims))
            y = F.layer_norm(tokens, (dims,), block.ln2.weight, block.ln2.bias, 1e-6)
            first, second = block.ffn.layers[0][0], block.ffn.layers[1]
            tokens = tokens + second(F.gelu(first(y)))
        count = model.num_prefix
        cls, x = tokens[:, :count], tokens[:, count:].transpose(1, 2).view(batch, dims, height, width)
        norm = getattr(model, f'norm{i}')
        outs.append(F.layer_norm(x.permute(0, 2, 3, 1), (dims,), norm.weight, norm.bias, 1e-6).permute(0, 3, 1, 2))
        if i < 2:
            cls, x = model.pools[i].fc(cls), model.pools[i].conv(x)
    return outs


@pytest.mark.parametrize('num_prefix', [1, 2])
@pytest.mark.parametrize('size', [(96, 96), (80, 128)])
def test_dense_is_pit(size, num_prefix):
    model, image = tiny(num_prefix=num_prefix), torch.randn(2, 3, *size)
    for training in (False, True):
        model.train(training)
        ours, theirs = model(image), plain(model, image)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_maps_have_the_strides_of_pit_and_cover_the_image():
    outs = tiny()(torch.randn(1, 3, 100, 90))  # padded to 104x96
    assert [tuple(out.shape[1:]) for out in outs] == [(16, 12, 11), (32, 6, 6), (64, 3, 3)]
    assert tiny()(torch.randn(1, 3, 10, 10))[0].shape[2:] == (1, 1)


@pytest.mark.parametrize('arch, published', [('ti', 0.7), ('xs', 1.4), ('s', 2.9), ('b', 12.5)])
def test_dense_macs_are_those_of_the_paper(arch, published):
    """PiT, arXiv 2103.16302, table 2, at 224x224."""
    with torch.device('meta'):
        model = PrunedPiT(arch)
    assert count_macs(model, (224, 224)) / 1e9 == pytest.approx(published, abs=0.11)
    assert model.sites == ('stage1.block1', 'stage2.block2', 'stage2.block4', 'stage3.block2')


@pytest.mark.parametrize('bypass', BYPASSES)
def test_training_and_inference_give_the_same_maps(bypass):
    model, image = tiny(LEARNED, sparsity=(0.3, 0.4, 0.6, 0.5), **bypass), torch.randn(2, 3, 96, 112)
    with model.record_selections() as training:
        trained = model.train()(image)
    assert set(model.keep_ratios) == set(model.sites) and set(model.computed_positions) == {0, 1, 2}
    with torch.no_grad(), model.record_selections() as inference:
        tested = model.eval()(image)
    assert not model.keep_ratios
    for a, b in zip(trained, tested):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert [record.site for record in training] == [record.site for record in inference]
    for a, b in zip(training, inference):
        assert torch.equal(a.token_mask(), b.token_mask())


@pytest.mark.parametrize('selector', SELECTORS)
@pytest.mark.parametrize('bypass', BYPASSES)
def test_macs_are_what_runs_and_images_do_not_depend_on_their_batch(selector, bypass):
    model = tiny(selector, sparsity=(0.3, 0.4, 0.6, 0.5), **bypass)
    assert measure_macs(model, (100, 90)) == pytest.approx(count_macs(model, (100, 90)), rel=0.001)
    images = torch.randn(3, 3, 90, 96)
    with torch.no_grad():
        together = model(images)[-1]
        alone = torch.cat([model(image[None])[-1] for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('sparsity', [0.0, (0.0, 0.0, 0.5, 0.0), 0.5])
@pytest.mark.parametrize('with_cp', [False, True])
def test_every_parameter_gets_a_gradient(sparsity, with_cp):
    model = tiny(sparsity=sparsity, with_cp=with_cp).train()
    sum(out.square().mean() for out in model(torch.randn(2, 3, 96, 96))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize('pooling', ['pools.{0}.', 'transformers.{0}.pool.', 'transformers.{1}.pool.'])
def test_timm_files_load_by_conversion(tmp_path, pooling):
    """Blocks of a ViT in ``transformers``, pooling beside them (the authors), at their end (timm) or begin (0.9)."""
    model = tiny()
    renamed = {}
    inner = {
        'ln1.': 'norm1.', 'ln2.': 'norm2.', 'attn.attn.in_proj_': 'attn.qkv.', 'attn.attn.out_proj.': 'attn.proj.',
        'ffn.layers.0.0.': 'mlp.fc1.', 'ffn.layers.1.': 'mlp.fc2.',
    }  # fmt: skip
    for key, value in model.state_dict().items():
        if key.startswith(('site_selectors', 'norm0', 'norm1')):
            continue
        if key.startswith('stages.'):
            _, stage, block, rest = key.split('.', 3)
            ours = next(name for name in inner if rest.startswith(name))
            key = f'transformers.{stage}.blocks.{block}.{inner[ours]}{rest.removeprefix(ours)}'
        else:
            key = re.sub(r'^pools\.(\d)\.', lambda found: pooling.format(int(found[1]), int(found[1]) + 1), key)
            key = re.sub(r'^norm2\.', 'norm.', key)
        renamed[key] = value.half() if 'pos_embed' in key else value
    renamed['head.weight'] = torch.zeros(10, 64)
    torch.save(renamed, tmp_path / 'pit.pth')
    checkpoint = dict(type='Pretrained', checkpoint=str(tmp_path / 'pit.pth'))
    other = PrunedPiT(**TINY, init_cfg=checkpoint)
    other.init_weights()
    image = torch.randn(1, 3, 96, 96)
    for name in ('norm0', 'norm1'):
        getattr(other, name).load_state_dict(getattr(model, name).state_dict())
    for a, b in zip(other.eval()(image), model(image)):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2)
    larger = PrunedPiT(**TINY | dict(img_size=160), init_cfg=checkpoint)
    larger.init_weights()
    assert larger.pos_embed.shape[2:] == (19, 19) and larger.pos_embed.std() > 0
    with pytest.raises(ValueError, match=r'is no PrunedPiT of this size.*arch and num_prefix'):
        PrunedPiT('ti', init_cfg=checkpoint).init_weights()


def test_frozen_stages_stay_as_they_are():
    model = tiny(frozen_stages=1, sparsity=0.5, drop_rate=0.1).train()
    assert not model.stages[0].training and model.stages[1].training
    sum(out.square().mean() for out in model(torch.randn(2, 3, 96, 96))).backward()
    frozen = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert {name.split('.')[0] for name in frozen} == {
        'patch_embed', 'pos_embed', 'cls_token', 'stages', 'pools', 'site_selectors',
    }  # fmt: skip
    assert not any(name.startswith(('stages.1', 'pools.1', 'site_selectors.1')) for name in frozen)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(arch='m'), "arch must be one of ti, xs, s, b, or a dict of sizes; got 'm'"),
        (dict(arch=dict(depths=(1,))), 'arch of PrunedPiT cannot be'),
        (
            dict(arch=dict(head_dims=(8, 8), num_heads=(2,), depths=(1, 1))),
            'one depth, one num_heads and one head_dims',
        ),
        (dict(arch=dict(head_dims=(8, 8), num_heads=(2, 3), depths=(1, 1))), r'each be a multiple.*\(16, 24\)'),
        (dict(num_prefix=3), 'num_prefix of PrunedPiT must be 1, or 2 for distilled models, got 3'),
        (dict(bypass='identity'), "bypass of PrunedPiT must be one of .*, got 'identity'"),
        (dict(site_blocks={0: (2,)}), r'site_blocks must be blocks from 0 to 1, since stage 0 has 2; got \(2,\)'),
        (dict(sparsity=(0.5, 0.4, 0.2, 0.1)), 'sparsity must not decrease within a stage'),
        (dict(out_indices=(0, 3)), 'out_indices must be distinct stages from 0 to 2'),
        (dict(frozen_stages=4), 'frozen_stages must be from -1 to 3, got 4'),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        PrunedPiT(**TINY | options)


def test_pooling_is_depthwise():
    pool = tiny().pools[0]
    assert isinstance(pool.conv, nn.Conv2d) and pool.conv.groups == 16 and pool.conv.out_channels == 32
