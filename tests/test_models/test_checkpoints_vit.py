"""Weights of plain ViTs from elsewhere: what they give in PrunedViT is what a plain forward of them gives."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from sparsevit_mm.models import PrunedViT
from sparsevit_mm.models.checkpoints import load_into

ROOT = Path(__file__).parents[2]


def plain_forward(state: dict[str, torch.Tensor], image: torch.Tensor, patch: int, heads: int) -> torch.Tensor:
    """A ViT under timm's and DINOv2's names, written down directly: ``[B, 3, H, W] -> [B, C, H', W']``."""
    x = F.conv2d(image, state['patch_embed.proj.weight'], state['patch_embed.proj.bias'], stride=patch)
    height, width = x.shape[-2:]
    x = x.flatten(2).transpose(1, 2)
    dims = x.shape[-1]
    x = torch.cat([state['cls_token'].expand(len(x), -1, -1), x], 1) + state['pos_embed']

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (dims,), state[f'{name}.weight'], state[f'{name}.bias'], 1e-6)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, state[f'{name}.weight'], state[f'{name}.bias'])

    block = 0
    while f'blocks.{block}.norm1.weight' in state:
        p = f'blocks.{block}'
        q, k, v = linear(norm(x, f'{p}.norm1'), f'{p}.attn.qkv').unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v
        x = x + state.get(f'{p}.ls1.gamma', 1) * linear(attention.transpose(1, 2).flatten(2), f'{p}.attn.proj')
        y = F.gelu(linear(norm(x, f'{p}.norm2'), f'{p}.mlp.fc1'))
        x = x + state.get(f'{p}.ls2.gamma', 1) * linear(y, f'{p}.mlp.fc2')
        block += 1
    return norm(x, 'norm')[:, 1:].transpose(1, 2).unflatten(2, (height, width))


def timm_state(layer_scale: bool, dims: int = 32, patches: int = 16) -> dict[str, torch.Tensor]:
    shapes = {
        'cls_token': (1, 1, dims),
        'pos_embed': (1, patches + 1, dims),
        'patch_embed.proj.weight': (dims, 3, 16, 16),
        'patch_embed.proj.bias': (dims,),
        'norm.weight': (dims,),
        'norm.bias': (dims,),
        'head.weight': (10, dims),
        'head.bias': (10,),
    }
    for i in range(2):
        for name, shape in (
            ('norm1', (dims,)),
            ('norm2', (dims,)),
            ('attn.qkv', (3 * dims, dims)),
            ('attn.proj', (dims, dims)),
            ('mlp.fc1', (4 * dims, dims)),
            ('mlp.fc2', (dims, 4 * dims)),
        ):
            shapes[f'blocks.{i}.{name}.weight'] = shape
            shapes[f'blocks.{i}.{name}.bias'] = shape[:1]
        if layer_scale:
            shapes |= {f'blocks.{i}.ls{j}.gamma': (dims,) for j in (1, 2)}
    return {name: 0.2 * torch.randn(shape) for name, shape in shapes.items()}


def build(path: Path, layer_scale: bool = False, **kwargs) -> PrunedViT:
    model = PrunedViT(
        img_size=64,
        embed_dims=32,
        num_layers=2,
        num_heads=4,
        site_blocks=(1,),
        patch_bias=True,
        final_norm=True,
        norm_cfg=dict(type='LN', eps=1e-6),
        layer_scale_init_value=1e-5 if layer_scale else 0.0,
        init_cfg=dict(type='Pretrained', checkpoint=str(path)),
        **kwargs,
    )
    model.init_weights()
    return model.eval()


@pytest.mark.parametrize('layer_scale', [False, True])
@pytest.mark.parametrize('kind', ['pth', 'safetensors'])
def test_names_of_timm_and_dinov2(tmp_path, layer_scale, kind):
    state, path = timm_state(layer_scale), tmp_path / f'vit.{kind}'
    save_file(state, path) if kind == 'safetensors' else torch.save(dict(model=state), path)
    model = build(path, layer_scale)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(image)[0], plain_forward(state, image, 16, 4), rtol=0, atol=1e-4)


def test_what_finds_no_place_is_named(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('sparsevit_mm.models.checkpoints.print_log', lambda text, *_: said.append(text))
    torch.save(timm_state(True) | {'mask_token': torch.zeros(1, 32)}, tmp_path / 'vit.pth')
    build(tmp_path / 'vit.pth')
    assert len(said) == 1 and 'keys with no place in the backbone (head.weight, head.bias, mask_token, ...)' in said[0]


def test_a_distilled_deit_loses_its_second_token(tmp_path):
    state = timm_state(False)
    positions = state['pos_embed']
    extra = torch.randn(1, 1, 32)
    distilled = state | {
        'dist_token': torch.randn(1, 1, 32),
        'pos_embed': torch.cat([positions[:, :1], extra, positions[:, 1:]], 1),
    }
    torch.save(distilled, tmp_path / 'deit.pth')
    assert torch.equal(build(tmp_path / 'deit.pth').pos_embed, positions)


def test_positions_fit_another_image_size(tmp_path):
    torch.save(timm_state(False, patches=49), tmp_path / 'vit.pth')
    assert build(tmp_path / 'vit.pth').pos_embed.shape == (1, 17, 32)


def test_a_whole_model_of_another_image_size_loads(tmp_path):
    """As the tools load it: the check of shapes must leave to the backbone what the backbone resizes."""
    torch.save(timm_state(False), tmp_path / 'vit.pth')
    trained = torch.nn.ModuleDict(dict(backbone=build(tmp_path / 'vit.pth')))
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 'model.pth')
    larger = PrunedViT(
        img_size=96, embed_dims=32, num_layers=2, num_heads=4, site_blocks=(1,), patch_bias=True, final_norm=True
    )
    load_into(torch.nn.ModuleDict(dict(backbone=larger)), tmp_path / 'model.pth', whole=True)
    assert larger.pos_embed.shape == (1, 37, 32)
    assert torch.equal(larger.pos_embed[:, 0], trained['backbone'].pos_embed[:, 0])


def test_names_of_mmpretrain(tmp_path):
    """Its ViT has the names of mmseg's but for attention."""
    state = timm_state(False)
    renamed = {}
    for key, value in state.items():
        key = key.replace('patch_embed.proj.', 'patch_embed.projection.').replace('blocks.', 'layers.')
        for theirs, mmpretrain in (('.norm1', '.ln1'), ('.norm2', '.ln2'), ('.mlp.fc1', '.ffn.layers.0.0')):
            key = key.replace(theirs, mmpretrain)
        key = key.replace('.mlp.fc2', '.ffn.layers.1')
        renamed['backbone.' + ('ln1' + key[4:] if key.startswith('norm.') else key)] = value
    torch.save(dict(state_dict=renamed), tmp_path / 'mmpretrain.pth')
    torch.save(state, tmp_path / 'timm.pth')
    ours, theirs = build(tmp_path / 'mmpretrain.pth'), build(tmp_path / 'timm.pth')
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(image)[0], theirs(image)[0])


def test_a_checkpoint_of_ours_brings_its_selectors(tmp_path):
    torch.save(timm_state(False), tmp_path / 'timm.pth')
    first = build(tmp_path / 'timm.pth')
    torch.save(dict(state_dict=first.state_dict()), tmp_path / 'ours.pth')
    again = build(tmp_path / 'ours.pth')
    for key, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_bad_files(tmp_path):
    torch.save(timm_state(False, dims=48), tmp_path / 'wide.pth')
    with pytest.raises(ValueError, match=r'is no PrunedViT of this size: .* have another shape .*Check embed_dims'):
        build(tmp_path / 'wide.pth')
    state = timm_state(False)
    del state['blocks.1.norm1.weight']
    torch.save(state, tmp_path / 'lacking.pth')
    with pytest.raises(ValueError, match=r'1 parameters are missing \(layers\.1\.ln1\.weight\)'):
        build(tmp_path / 'lacking.pth')
    (tmp_path / 'broken.safetensors').write_bytes(b'no tensors')
    with pytest.raises(ValueError, match='damaged or no torch checkpoint'):
        build(tmp_path / 'broken.safetensors')
    with pytest.raises(ValueError, match='cannot be read'):
        build(tmp_path / 'nowhere.safetensors')


@pytest.mark.data
def test_trained_dinov2_with_its_saliency_decoder():
    spec = importlib.util.spec_from_file_location('saliency', ROOT / 'docs' / 'scripts' / 'saliency_agreement.py')
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    folder = ROOT / 'data' / 'dinov2_vits14'
    weights = next(folder.glob('dinov2*.safetensors'))
    model = script.build_vit(weights, 'ClassAttentionSelector')
    decoder = script.SaliencyDecoder(next(folder.glob('saliency_decoder*.safetensors')))
    image = script.read_image(sorted((ROOT / 'data/coco_mini/val2017').glob('*.jpg'))[0])
    state = {key: value.float() for key, value in load_file(weights).items()}
    with torch.no_grad():
        expected = plain_forward(state, image, 14, 6)
        dense = model(image)[0]
        torch.testing.assert_close(dense, expected, rtol=0, atol=1e-3)
        saliency = decoder(dense, (518, 518))
        torch.testing.assert_close(saliency, decoder(expected, (518, 518)), rtol=0, atol=1e-3)
        assert saliency.std() > 0.1, 'a trained model sees more than one level'
        model.sparsity = (0.1, 0.19, 0.271)
        pruned = decoder(model(image)[0], (518, 518))
    assert pruned.isfinite().all() and 0 < (pruned - saliency).abs().mean() < 0.2
