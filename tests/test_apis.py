"""Configs of all three packages: read, made sparse, freed of downloads, built."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from sparsevit_mm.apis import build_model, drop_pretrained, init_scope, load_config, sparsify_config

TINY = dict(embed_dims=8, depths=[2, 2], num_heads=[1, 2], strides=[4, 2], window_size=4, out_indices=[1])


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def segmentor(tmp_path):
    pytest.importorskip('mmseg')
    text = f"""
default_scope = 'mmseg'
test_dataloader = dict(dataset=dict(type='CityscapesDataset'))
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(32, 32)),
    backbone=dict(type='SwinTransformer', init_cfg=dict(type='Pretrained', checkpoint='x.pth'), **{TINY}),
    decode_head=dict(type='FCNHead', in_channels=16, channels=8, num_convs=1, num_classes=19, concat_input=False,
                     norm_cfg=dict(type='SyncBN')),
    test_cfg=dict(mode='whole'),
)
"""
    return write(tmp_path / 'segmentor.py', text)


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ('package', 'name'),
    [
        ('mmdet', 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'),
        ('mmseg', 'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'),
        ('mmdet3d', 'mmdet3d::pgd/pgd_r101-caffe_fpn_head-gn_4xb3-4x_kitti-mono3d.py'),
    ],
)
def test_configs_of_installed_packages_are_found_by_name(package, name):
    pytest.importorskip(package)
    assert load_config(name).default_scope == package


def test_base_may_name_this_package(tmp_path, monkeypatch):
    """The ``.mim`` folder is made by the installation; here a stand-in shows where it is looked for."""
    package = tmp_path / 'sparsevit_mm'
    (package / '.mim' / 'configs' / 'some').mkdir(parents=True)
    write(package / '.mim' / 'configs' / 'some' / 'base.py', "answer = 42\nmodel = dict(type='X')")
    write(package / '.mim' / 'model-index.yml', 'Import: []')
    from mmengine.config import config as mmengine_config

    asked = []
    monkeypatch.setattr(mmengine_config, 'get_installed_path', lambda name: asked.append(name) or str(package))
    cfg = load_config(write(tmp_path / 'mine.py', "_base_ = 'sparsevit_mm::some/base.py'"))
    assert cfg.answer == 42 and cfg.model.type == 'X'
    from mmengine.utils import get_installed_path, is_installed

    import sparsevit_mm

    assert is_installed(asked[0]) and get_installed_path(asked[0]) == str(Path(sparsevit_mm.__file__).parent)


def test_mmseg_of_another_distribution_is_found(monkeypatch):
    """The maintained fork calls its distribution onedl-mmsegmentation, and mmengine looks for mmsegmentation."""
    from mmengine.config import utils

    from sparsevit_mm import config as ours

    monkeypatch.setitem(utils.MODULE2PACKAGE, 'mmseg', 'no-such-distribution')
    ours._make_packages_known()
    assert utils.MODULE2PACKAGE['mmseg'] == 'mmseg'


def test_options_replace_what_the_file_says(segmentor):
    cfg = load_config(segmentor, {'model.decode_head.num_classes': 3, 'model.backbone.depths': [2, 4]})
    assert cfg.model.decode_head.num_classes == 3 and cfg.model.backbone.depths == [2, 4]


def test_unreadable_configs_are_named(tmp_path, segmentor):
    with pytest.raises(ValueError, match=r"'nope\.py' cannot be read: there is no such file"):
        load_config('nope.py')
    for name, text in [
        ('syntax.py', 'a = ='),
        ('base.py', "_base_ = './gone.py'"),
        ('package.py', "_base_ = 'mmrotate::x/y.py'"),
        ('raises.py', 'a = 1 / 0'),
    ]:
        with pytest.raises(ValueError, match=rf'{name}.* cannot be read'):
            load_config(write(tmp_path / name, text))
    with pytest.raises(ValueError, match=r'--cfg-options .*default_scope\.x'):
        load_config(segmentor, {'default_scope.x': 1})


# ---------------------------------------------------------------- sparse


def model_config(backbone, key='backbone', **more):
    return Config(dict(model=dict({key: backbone}, type='M'), **more))


@pytest.mark.parametrize(
    'backbone',
    [
        dict(type='SwinTransformer', depths=(2, 2)),
        dict(type='mmdet.SwinTransformer', depths=(2, 2)),
        dict(type='mmseg.SwinTransformer', depths=(2, 2)),
        dict(type='SwinTransformer', _scope_='mmdet', depths=(2, 2)),
    ],
)
@pytest.mark.parametrize('key', ['backbone', 'img_backbone'])
def test_swin_of_either_package_becomes_sparse(backbone, key):
    cfg = model_config(backbone, key, default_scope='mmseg')
    sparse = sparsify_config(cfg, (0.5, 0), selector=dict(type='sparsevit_mm.RandomSelector'))
    assert sparse.model[key].type == 'sparsevit_mm.SparseSwin'
    assert sparse.model[key].sparsity == (0.5, 0.0)
    assert sparse.model[key].selector.type == 'sparsevit_mm.RandomSelector' and sparse.model[key].depths == (2, 2)
    assert sparse.custom_imports == dict(imports=['sparsevit_mm'], allow_failed_imports=False)
    assert cfg.model[key].type == backbone['type'], 'the config that was given must stay as it is'


def test_nested_models_and_present_imports():
    cfg = Config(
        dict(
            default_scope='mmdet',
            custom_imports=dict(imports=['json']),
            model=dict(type='SoftTeacher', detector=dict(type='M', backbone=dict(type='SwinTransformer'))),
        )
    )
    sparse = sparsify_config(cfg, 0.25)
    assert sparse.model.detector.backbone.sparsity == 0.25
    assert sparse.custom_imports.imports == ['json', 'sparsevit_mm']


def test_a_sparse_config_gets_the_sparsity_only():
    cfg = model_config(dict(type='sparsevit_mm.SparseSwin', sparsity=0.1, bypass='identity'))
    assert sparsify_config(cfg, 0.5).model.backbone.to_dict() == dict(
        type='sparsevit_mm.SparseSwin', sparsity=0.5, bypass='identity'
    )


@pytest.mark.parametrize(
    ('cfg', 'found'),
    [
        (model_config(dict(type='ResNet')), r"model\.backbone\.type='ResNet'"),
        (model_config(dict(type='mmpretrain.SwinTransformer')), r"type='mmpretrain\.SwinTransformer'"),
        (Config(dict(model=dict(type='M'))), 'no backbone'),
        (Config(dict(x=1)), 'no backbone'),
        (
            Config(
                dict(model=[dict(backbone=dict(type='SwinTransformer')), dict(backbone=dict(type='SwinTransformer'))])
            ),
            'exactly one',
        ),
    ],
)
def test_a_config_without_one_swin_is_refused(cfg, found):
    with pytest.raises(ValueError, match=rf'{found}.*Known are mmdet\.SwinTransformer, mmseg\.'):
        sparsify_config(cfg, 0.5)


def test_pretrained_files_are_dropped_everywhere():
    pretrained = dict(type='Pretrained', checkpoint='x.pth')
    cfg = Config(
        dict(
            model=dict(
                pretrained='open-mmlab://x',
                backbone=dict(type='A', init_cfg=pretrained),
                necks=[dict(type='B', init_cfg=[dict(type='Kaiming', layer='Conv2d'), pretrained])],
                head=dict(type='C', init_cfg=dict(type='Normal', std=0.01), init=dict(pretrained=True)),
            ),
            load_from='y.pth',
        )
    )
    drop_pretrained(cfg)
    assert cfg.model.pretrained is None and cfg.model.backbone.init_cfg is None
    assert cfg.model.necks[0].init_cfg == [dict(type='Kaiming', layer='Conv2d')]
    assert cfg.model.head.init_cfg == dict(type='Normal', std=0.01) and cfg.model.head.init.pretrained is True
    assert cfg.load_from == 'y.pth'


# ---------------------------------------------------------------- built


def test_scopes_beside_the_default_one_are_registered():
    """mmseg's Mask2Former takes its head from mmdet."""
    pytest.importorskip('mmseg')
    pytest.importorskip('mmdet')
    from mmengine.registry import MODELS, DefaultScope

    init_scope(Config(dict(default_scope='mmseg', model=dict(head=[dict(type='mmdet.Mask2FormerHead')]))))
    assert DefaultScope.get_current_instance().scope_name == 'mmseg'
    assert MODELS.get('mmdet.Mask2FormerHead') is not None


def test_a_missing_package_is_named(monkeypatch):
    import importlib

    from sparsevit_mm import apis

    def missing(name):
        raise ModuleNotFoundError(f'No module named {name}', name='mmdet3d')

    monkeypatch.setattr(apis.importlib, 'import_module', missing)
    with pytest.raises(ValueError, match=r'needs mmdet3d.*sparsevit_mm\[det3d\]'):
        init_scope(Config(dict(default_scope='mmdet3d')))
    monkeypatch.undo()
    assert importlib.import_module('json')


def test_build_model_loads_checked_weights_and_names_classes(segmentor, tmp_path):
    pytest.importorskip('mmcv')
    from mmseg.apis import inference_model

    cfg = load_config(segmentor)
    dense = build_model(cfg)
    assert not dense.training and cfg.model.backbone.init_cfg.checkpoint == 'x.pth'
    assert len(dense.dataset_meta['classes']) == 19 and len(dense.dataset_meta['palette']) == 19

    meta = dict(dataset_meta=dict(classes=('a',) * 19, palette=[[0, 0, 0]] * 19))
    checkpoint = tmp_path / 'dense.pth'
    torch.save(dict(state_dict=dense.state_dict(), meta=meta), checkpoint)
    sparse = build_model(sparsify_config(cfg, 0.5), str(checkpoint))
    assert sparse.dataset_meta['classes'] == ('a',) * 19
    assert sparse.backbone.sparsity == (0.5, 0.5)
    assert sparse.cfg.model.backbone.type == 'sparsevit_mm.SparseSwin'
    sparse.backbone.sparsity = 0.0
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(sparse.backbone(x)[0], dense.backbone(x)[0])

    sparse.cfg.test_pipeline = [dict(type='LoadImageFromNDArray'), dict(type='PackSegInputs')]
    out = inference_model(sparse, (torch.rand(32, 32, 3) * 255).byte().numpy())
    assert out.pred_sem_seg.shape == (32, 32)


def test_build_model_says_what_is_wrong(segmentor, tmp_path):
    cfg = load_config(segmentor)
    with pytest.raises(ValueError, match=r'gone\.pth'):
        build_model(cfg, str(tmp_path / 'gone.pth'))
    with pytest.raises(ValueError, match='NoSuchHead'):
        build_model(load_config(segmentor, {'model.decode_head.type': 'NoSuchHead'}))
    with pytest.raises(ValueError, match='wheels'):
        build_model(load_config(segmentor, {'model.backbone.wheels': 4}))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match='no CUDA device'):
            build_model(cfg, device='cuda:0')


def test_configs_written_with_imports(tmp_path):
    """mmengine's other style, where ``type`` is a class."""
    pytest.importorskip('mmdet')
    text = """
from mmengine.model import PretrainedInit
from mmdet.models.backbones import SwinTransformer

model = dict(backbone=dict(type=SwinTransformer, depths=(2, 2), init_cfg=dict(type=PretrainedInit, checkpoint='x')))
"""
    cfg = load_config(write(tmp_path / 'lazy.py', text))
    drop_pretrained(cfg)
    assert cfg.model.backbone.init_cfg is None
    assert sparsify_config(cfg, 0.5).model.backbone.type == 'sparsevit_mm.SparseSwin'
