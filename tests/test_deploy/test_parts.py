"""What of a model is exported."""

import json

import pytest
import torch
from mmengine.config import Config
from torch import nn

from sparsevit_mm.deploy.parts import ModelPart, describe, part_of
from sparsevit_mm.models import SparseSwin


class Detector(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = Neck()
        self.dataset_meta = dict(classes=('car', 'tree'))


class Neck(nn.Module):
    def forward(self, maps):
        return [2 * value for value in maps]


@pytest.fixture
def backbone(tiny_swin_cfg) -> SparseSwin:
    return SparseSwin(**tiny_swin_cfg, sparsity=(0.5, 0, 0.5)).eval()


IMAGES = torch.randn(2, 3, 64, 64)


def test_backbone_and_neck(backbone):
    model = Detector(backbone)
    assert part_of(model) == 'features' and part_of(backbone) == 'backbone'
    with torch.no_grad():
        plain, behind = ModelPart(model, 'backbone')(IMAGES), ModelPart(model, 'features')(IMAGES)
    assert all(torch.equal(2 * before, after) for before, after in zip(plain, behind))


def test_names_of_outputs(backbone):
    part = ModelPart(backbone, selections=True)
    names = part.output_names(IMAGES)
    assert names[:2] == ['map0', 'map1']
    blocks = ['stage1.pair1.block0', 'stage1.pair1.block1', 'stage2.pair2.block2', 'stage2.pair2.block3']
    assert names[2:] == [f'kept.{block}' for block in blocks]
    with torch.no_grad():
        kept = part(IMAGES)[2:]
    assert [tuple(indices.shape) for indices in kept] == [(2, 4), (2, 4), (2, 2), (2, 2)]


def test_no_part_of_that_name(backbone):
    with pytest.raises(ValueError, match="part must be one of backbone, features, logits, got 'boxes'"):
        ModelPart(backbone, 'boxes')
    with pytest.raises(ValueError, match='Detector is no segmentor, so it has no logits'):
        ModelPart(Detector(backbone), 'logits')


def test_adaptive_counts_are_refused(tiny_swin_cfg):
    selector = dict(type='sparsevit_mm.MultiHeadSelector', draw='batch')
    model = SparseSwin(**tiny_swin_cfg, counts='adaptive', selector=selector)
    with pytest.raises(ValueError, match=r"counts='adaptive'.*--cfg-options model.backbone.counts=fixed"):
        ModelPart(model)


def test_description(backbone):
    preprocessor = dict(mean=[1, 2, 3], std=[4, 5, 6], bgr_to_rgb=True)
    notes = describe(Detector(backbone), Config(dict(model=dict(data_preprocessor=preprocessor))), 'a.py')
    notes = {key.removeprefix('sparsevit_mm.'): json.loads(value) for key, value in notes.items()}
    assert notes['sparsity'] == [0.5, 0.0, 0.5] and notes['classes'] == ['car', 'tree']
    assert (notes['config'], notes['channels'], notes['mean']) == ('a.py', 'RGB', [1, 2, 3])
