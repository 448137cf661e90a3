from pathlib import Path

import pytest
import torch

from sparsevit_mm.cost import subjects
from sparsevit_mm.cost.subjects import load_subject, parse_sparsity

STOCK = """
default_scope = 'mmdet'
model = dict(backbone=dict(
    type='SwinTransformer', embed_dims=16, depths=[2, 2, 4, 2], num_heads=[1, 2, 4, 8], drop_path_rate=0.2,
    init_cfg=dict(type='Pretrained', checkpoint='http://nowhere.invalid/swin.pth')))
"""
OURS = """
default_scope = 'mmdet'
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)
model = dict(backbone=dict(
    type='sparsevit_mm.SparseSwin', embed_dims=16, depths=(2, 2, 4, 2), num_heads=(1, 2, 4, 8),
    sparsity=(0.6, 0, 0.2, 0.4, 0), selector=dict(type='sparsevit_mm.MagnitudeSelector')))
"""


@pytest.fixture
def config(tmp_path):
    pytest.importorskip('mmdet')

    def write(text: str) -> str:
        path = Path(tmp_path, 'some_config.py')
        path.write_text(text)
        return str(path)

    return write


def test_parse_sparsity():
    assert parse_sparsity('0.6') == 0.6
    assert parse_sparsity('.6,0,.2') == (0.6, 0, 0.2)
    for wrong in ('x', '.1,', '.1;.2'):
        with pytest.raises(ValueError, match='neither a number nor numbers with commas'):
            parse_sparsity(wrong)


@pytest.mark.parametrize('text', [STOCK, OURS])
def test_stock_and_sparse_share_their_weights(config, text):
    subject = load_subject(config(text), [0])
    assert type(subject.stock).__name__ == 'SwinTransformer' and type(subject.sparse).__name__ == 'SparseSwin'
    assert not subject.whole_model and subject.model is subject.sparse and subject.stock_model is subject.stock
    images = torch.randn(1, 3, 50, 60)
    subject.sparse.sparsity = 0
    subject.sparse.eval()
    subject.stock.eval()
    with torch.no_grad():
        for ours, stock in zip(subject.sparse(images), subject.stock(images)):
            torch.testing.assert_close(ours, stock, rtol=0, atol=1e-4)


def test_sparsities_given_or_the_configs_own(config):
    own = (0.6, 0, 0.2, 0.4, 0)
    assert load_subject(config(OURS)).sparsities == (own,)
    assert load_subject(config(STOCK)).sparsities == ((0,) * 5,)
    assert load_subject(config(OURS), [0.5, own]).sparsities == ((0.5,) * 5, own)


def test_the_same_stock_model_is_recognised(config):
    first, second = load_subject(config(STOCK)), load_subject(config(OURS))
    assert first.architecture == second.architecture
    other = load_subject(config(STOCK), cfg_options={'model.backbone.window_size': 5})
    assert other.architecture != first.architecture


def test_without_stock(config):
    subject = load_subject(config(OURS), stock=False)
    assert subject.stock is None and subject.stock_model is None


def test_sparsity_must_fit(config):
    with pytest.raises(ValueError, match='5 sites'):
        load_subject(config(STOCK), [(0.1, 0.2)])


def test_config_needs_a_backbone_that_we_know(config):
    with pytest.raises(ValueError, match=r'ResNet.*one backbone that can be made sparse'):
        load_subject(config("default_scope = 'mmdet'\nmodel = dict(backbone=dict(type='ResNet', depth=18))"))


def test_missing_stock_package_is_said(config, monkeypatch):
    monkeypatch.setitem(subjects.STOCK_FORMS, 'SparseSwin', ['mmdet.NoSuchSwin'])
    with pytest.raises(ValueError, match=r'mmdet\.NoSuchSwin is not installed: install mmdet, or use --no-stock'):
        load_subject(config(STOCK))
    assert load_subject(config(STOCK), stock=False).sparse is not None


def test_stock_may_be_left_out_with_a_remark(config, monkeypatch):
    assert load_subject(config(STOCK), optional_stock=True).stock is not None
    monkeypatch.setitem(subjects.STOCK_FORMS, 'SparseSwin', ['mmdet.NoSuchSwin'])
    subject = load_subject(config(STOCK), optional_stock=True)
    assert subject.stock is None and subject.stock_model is None
    assert subject.remark.startswith('There is no stock row of some_config: The stock backbone mmdet.NoSuchSwin is not')


def test_training_feels_checkpointing(config):
    plain, recomputed = config(STOCK), {'model.backbone.with_cp': True}
    for training in (False, True):
        names = [load_subject(plain, training=training, cfg_options=o).architecture for o in (None, recomputed)]
        assert (names[0] == names[1]) is not training


def test_family_without_stock_counterpart_is_said(config, monkeypatch):
    monkeypatch.delitem(subjects.STOCK_FORMS, 'SparseSwin')
    with pytest.raises(ValueError, match='SparseSwin has no stock counterpart to compare with: use --no-stock'):
        load_subject(config(OURS))
