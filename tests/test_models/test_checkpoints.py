import os
import pickle

import mmdet.models.backbones.swin as mmdet_swin
import mmseg.models.backbones.swin as mmseg_swin
import pytest
import torch
from torch import nn

from sparsevit_mm.models import DynamicSwin, SparseSwin
from sparsevit_mm.models.checkpoints import convert_official_swin, load_into, read_checkpoint, state_of

from .conftest import randomize

TINY = dict(embed_dims=16, depths=(2, 2), num_heads=(2, 4), strides=(4, 2), out_indices=(0, 1))


def official_names(state: dict) -> dict:
    """State dict of a Swin with the official repository's names and orders, plus what its classifier has."""
    official = {}
    for key, value in state.items():
        if key.startswith('norm'):
            continue
        if '.downsample.' in key:
            # channels by (y, x) of a patch -> (x, y) by channels
            value = value.unflatten(-1, (-1, 2, 2)).movedim(-3, -1).transpose(-3, -2).flatten(-3)
        key = key.replace('stages.', 'layers.').replace('.w_msa', '').replace('.projection.', '.proj.')
        key = key.replace('.ffn.layers.0.0.', '.mlp.fc1.').replace('.ffn.layers.1.', '.mlp.fc2.')
        official[key] = value
    extra = {
        'head.weight': torch.zeros(10, 32),
        'norm.weight': torch.ones(32),
        'layers.0.blocks.1.attn_mask': torch.zeros(4),
    }
    return official | extra


def build(**arguments) -> SparseSwin:
    model = SparseSwin(**TINY | arguments)
    model.init_weights()
    return randomize(model)


def same_weights(a: nn.Module, b: nn.Module, skip: str = '\n') -> bool:
    other = dict(b.named_parameters())
    return all(torch.equal(value, other[name]) for name, value in a.named_parameters() if not name.startswith(skip))


@pytest.mark.parametrize('convert', [False, True])
def test_official_swin_loads_by_init_cfg(tmp_path, convert):
    source = build()
    torch.save(dict(model=official_names(source.state_dict())), tmp_path / 'swin.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'swin.pth'))
    model = SparseSwin(**TINY, init_cfg=init_cfg, convert_weights=convert)
    model.init_weights()
    assert same_weights(model, source, skip='norm')  # a classifier has no output norms


def test_conversion_agrees_with_mmdet():
    official = official_names(build().state_dict())
    theirs = mmdet_swin.swin_converter({key: value for key, value in official.items() if 'attn_mask' not in key})
    ours = convert_official_swin(official)
    theirs = {key.removeprefix('backbone.'): value for key, value in theirs.items()}
    assert set(ours) == set(theirs) - {'norm.weight'}
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize('stock', [mmdet_swin.SwinTransformer, mmseg_swin.SwinTransformer])
@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.backbone.'])
def test_mm_checkpoints_load_by_init_cfg(tmp_path, stock, prefix):
    source = stock(**TINY)
    source.init_weights()
    randomize(source)
    state = {prefix + key: value for key, value in source.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'mm.pth')
    model = SparseSwin(**TINY, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'mm.pth')))
    model.init_weights()
    assert same_weights(model, source)


def test_tables_are_resized_to_the_window_and_the_image(tmp_path):
    source = build(use_abs_pos_embed=True, pretrain_img_size=64)
    torch.save(source.state_dict(), tmp_path / 'a.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'))
    model = SparseSwin(**TINY, use_abs_pos_embed=True, pretrain_img_size=(96, 128), window_size=12, init_cfg=init_cfg)
    model.init_weights()
    table = source.stages[0].blocks[0].attn.w_msa.relative_position_bias_table
    resized = model.stages[0].blocks[0].attn.w_msa.relative_position_bias_table
    assert resized.shape == (23**2, 2) and model.absolute_pos_embed.shape == (1, 24 * 32, 16)
    expected = nn.functional.interpolate(table.t().view(1, 2, 13, 13), size=(23, 23), mode='bicubic')
    torch.testing.assert_close(resized.t(), expected.flatten(2)[0])
    index = model.stages[0].blocks[0].attn.w_msa.relative_position_index
    assert index.shape == (144, 144) and index.max() == 23**2 - 1
    again = SparseSwin(**TINY, use_abs_pos_embed=True, pretrain_img_size=64)
    again.load_state_dict(source.state_dict())  # nothing to resize: exact
    assert same_weights(again, source)


def test_a_stock_checkpoint_with_another_window_loads_by_load_state_dict():
    source = build(window_size=7)
    model = build(window_size=12)
    model.load_state_dict(source.state_dict())
    assert torch.equal(model.patch_embed.projection.weight, source.patch_embed.projection.weight)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(embed_dims=32), r'no SparseSwin of this size: \d+ tensors have another shape'),
        (dict(depths=(2, 4)), r'8 |\d+ parameters are missing \(stages\.1\.blocks\.2'),
        (dict(use_abs_pos_embed=True), r'1 parameters are missing \(absolute_pos_embed\)'),
    ],
)
def test_pretrained_file_of_another_size(tmp_path, arguments, message):
    torch.save(build().state_dict(), tmp_path / 'a.pth')
    model = SparseSwin(**TINY | arguments, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth')))
    with pytest.raises(ValueError, match=message):
        model.init_weights()


class Detector(nn.Module):
    def __init__(self, **arguments) -> None:
        super().__init__()
        self.backbone = build(**arguments)
        self.head = nn.Conv2d(16, 5, 1)


def test_load_into_fills_a_model_and_returns_the_meta(tmp_path):
    source, model = Detector(), Detector()
    torch.save(dict(state_dict=source.state_dict(), meta=dict(epoch=3)), tmp_path / 'a.pth')
    assert load_into(model, tmp_path / 'a.pth')['meta'] == dict(epoch=3)
    assert same_weights(model, source)


def test_load_into_keeps_what_the_checkpoint_lacks(tmp_path, caplog):
    source, model = Detector(), Detector()
    state = {key: value for key, value in source.state_dict().items() if 'head' not in key}
    torch.save(state, tmp_path / 'a.pth')
    head = model.head.weight.clone()
    load_into(model, tmp_path / 'a.pth')
    assert torch.equal(model.head.weight, head) and same_weights(model.backbone, source.backbone)
    with pytest.raises(ValueError, match=r'lacks 2 parameters of the config.*head\.weight'):
        load_into(model, tmp_path / 'a.pth', whole=True)


@pytest.mark.parametrize('other', [dict(embed_dims=32), dict(depths=(2, 4))])
def test_load_into_refuses_another_architecture_and_changes_nothing(tmp_path, other):
    torch.save(dict(state_dict=Detector().state_dict()), tmp_path / 'a.pth')
    model = Detector(**other)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r'a\.pth belongs to another architecture.*Give the config'):
        load_into(model, tmp_path / 'a.pth')
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_classifier_is_no_detector(tmp_path):
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='belongs to another architecture'):
        load_into(Detector(), tmp_path / 'a.pth')


def test_unreadable_files(tmp_path):
    good = tmp_path / 'good.pth'
    torch.save(build().state_dict(), good)
    cut = tmp_path / 'cut.pth'
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    text = tmp_path / 'text.pth'
    text.write_text('<html>not found</html>')
    empty = tmp_path / 'empty.pth'
    empty.write_bytes(b'')
    for path in (cut, text, empty):
        with pytest.raises(ValueError, match=f'{path.name} is'):
            read_checkpoint(path)
    with pytest.raises(ValueError, match=r'nowhere\.pth cannot be read'):
        read_checkpoint(tmp_path / 'nowhere.pth')
    with pytest.raises(ValueError, match='cannot be read'):
        read_checkpoint(tmp_path)
    torch.save([1, 2], good)
    with pytest.raises(ValueError, match='holds a list, not a state dict'):
        read_checkpoint(good)
    with pytest.raises(ValueError, match='has no tensors'):
        state_of(dict(meta=dict(epoch=1)))


class Hostile:
    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


def test_a_file_that_would_run_code_is_refused_before_it_runs(tmp_path):
    path, trace = tmp_path / 'bad.pth', tmp_path / 'ran'
    torch.save(dict(state_dict=dict(a=torch.ones(1)), meta=Hostile(trace)), path)
    with pytest.raises(ValueError, match=r'bad\.pth is refused.*could run code'):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps(Hostile(trace)))
    with pytest.raises(ValueError, match=r'bad\.pth is'):
        read_checkpoint(path)
    assert not trace.exists()


def test_a_dense_checkpoint_starts_a_sparse_model_and_is_no_sparse_model(tmp_path):
    tiny = dict(embed_dims=16, depths=(2, 4), num_heads=(2, 4), strides=(4, 2), out_indices=(0, 1))
    dense = nn.ModuleDict(dict(backbone=SparseSwin(**tiny)))
    torch.save(dict(state_dict=dense.state_dict()), tmp_path / 'dense.pth')
    learned = SparseSwin(**tiny, selector=dict(type='sparsevit_mm.PredictorSelector'))
    two_paths = DynamicSwin(**tiny, site_stage=1, site_blocks=(1,))
    for backbone, advice in ((learned, 'Or choose a selector that has nothing to learn'), (two_paths, 'Train the')):
        model = nn.ModuleDict(dict(backbone=backbone))
        load_into(model, tmp_path / 'dense.pth')
        weight = model['backbone'].stages[1].blocks[3].attn.w_msa.qkv.weight
        assert torch.equal(weight, dense['backbone'].stages[1].blocks[3].attn.w_msa.qkv.weight)
        with pytest.raises(ValueError, match=f'is of a dense model: it lacks .* selectors or fast paths .*{advice}'):
            load_into(model, tmp_path / 'dense.pth', whole=True)
