import pytest
from mmengine.config import Config

from sparsevit_mm.apis import load_config
from sparsevit_mm.search.best_config import found_config, write_inheriting_config

BASE = """
default_scope = 'mmdet'
model = dict(
    type='MaskRCNN',
    pretrained='https://example.invalid/all.pth',
    backbone=dict(
        type='SwinTransformer', depths=(2, 2), init_cfg=dict(type='Pretrained', checkpoint='https://example.invalid/x')
    ),
    neck=dict(type='FPN', in_channels=[96, 192]),
)
test_cfg = dict(type='sparsevit_mm.SparsitySearchLoop', budget=0.6)
custom_hooks = [dict(type='sparsevit_mm.SparsityAdaptationHook', choices=(0, 0.5)), dict(type='EMAHook', priority=49)]
custom_imports = dict(imports=['math'], allow_failed_imports=False)
"""


@pytest.fixture
def base(tmp_path):
    path = tmp_path / 'base.py'
    path.write_text(BASE)
    return path


def write(base, path, cfg=None, checkpoint='/weights/adapted.pth'):
    cfg = found_config(cfg or load_config(base), (0.1, 0.5), checkpoint)
    write_inheriting_config(cfg, base, path, 'Found.')
    return load_config(path)


def test_gives_what_is_to_be_trained(base, tmp_path):
    cfg = write(base, tmp_path / 'best.py')
    assert cfg.model.backbone == dict(type='sparsevit_mm.SparseSwin', depths=(2, 2), init_cfg=None, sparsity=(0.1, 0.5))
    assert cfg.model.pretrained is None and cfg.load_from == '/weights/adapted.pth'
    assert cfg.test_cfg == dict(type='TestLoop')
    assert cfg.custom_hooks == [dict(type='EMAHook', priority=49)]
    assert cfg.custom_imports.imports == ['math', 'sparsevit_mm']
    assert cfg.model.neck == dict(type='FPN', in_channels=[96, 192])


def test_says_no_more_than_what_differs(base, tmp_path):
    write(base, tmp_path / 'best.py')
    text = (tmp_path / 'best.py').read_text()
    assert text.startswith('"""Found.\n"""') and 'FPN' not in text and 'MaskRCNN' not in text
    assert [path.name for path in tmp_path.iterdir() if 'unfinished' in path.name] == []


def test_command_line_overrides_are_kept(base, tmp_path):
    options = {'model.neck.in_channels': [96, 7], 'model.neck.num_outs': 5, 'custom_hooks.1.priority': 1}
    cfg = write(base, tmp_path / 'best.py', load_config(base, options))
    assert cfg.model.neck == dict(type='FPN', in_channels=[96, 7], num_outs=5)
    assert cfg.custom_hooks == [dict(type='EMAHook', priority=1)]


def test_base_is_relative_within_the_project_and_absolute_outside(base, tmp_path, monkeypatch):
    (tmp_path / 'work').mkdir()
    monkeypatch.chdir(tmp_path)
    write(base, tmp_path / 'work' / 'best.py')
    assert "_base_ = ['../base.py']" in (tmp_path / 'work' / 'best.py').read_text()
    monkeypatch.chdir(tmp_path / 'work')
    write(base, tmp_path / 'work' / 'best.py')
    assert f"_base_ = ['{base}']" in (tmp_path / 'work' / 'best.py').read_text()


def test_installed_config_is_inherited_by_its_name(tmp_path):
    pytest.importorskip('mmdet')
    name = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'
    cfg = found_config(load_config(name), (0.5,) * 6, 'https://example.invalid/trained.pth')
    write_inheriting_config(cfg, name, tmp_path / 'best.py', 'Found.')
    assert f"_base_ = ['{name}']" in (tmp_path / 'best.py').read_text()
    found = load_config(tmp_path / 'best.py')
    assert found.model.backbone.sparsity == (0.5,) * 6 and found.model.backbone.embed_dims == 96
    assert found.load_from == 'https://example.invalid/trained.pth'


def test_config_made_in_code_stands_alone(tmp_path):
    cfg = Config(dict(default_scope='mmseg', model=dict(backbone=dict(type='SwinTransformer'))))
    write_inheriting_config(found_config(cfg, (0.5,)), None, tmp_path / 'best.py', 'Found.')
    assert load_config(tmp_path / 'best.py').model.backbone.sparsity == (0.5,)


def test_base_that_cannot_be_inherited_is_written_out(base, tmp_path):
    """What a base gives can change between the run and the report."""
    cfg = found_config(load_config(base), (0.1, 0.5))
    base.write_text(BASE.replace("'MaskRCNN'", '1 / 0'))
    with pytest.raises(ValueError, match='cannot be read'):
        write_inheriting_config(cfg, base, tmp_path / 'best.py', 'Found.')
    assert not (tmp_path / 'best.py').exists()
