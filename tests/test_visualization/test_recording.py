"""What the backbone of a whole model computes, in one piece and in sliding crops."""

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from tiny_segmentation import make_project

pytest.importorskip('mmseg')

from sparsevit_mm.apis import build_model, load_config, sparsify_config
from sparsevit_mm.models import find_sparse_backbone
from sparsevit_mm.visualization import record_inference, site_maps


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    config, checkpoint = make_project(tmp_path_factory.mktemp('tiny'))
    return build_model(sparsify_config(load_config(config), (0.5, 0.75)), str(checkpoint))


@pytest.fixture(autouse=True)
def whole(model: torch.nn.Module) -> None:
    model.test_cfg = ConfigDict(mode='whole')


def batch(*images: torch.Tensor) -> dict:
    from mmseg.structures import SegDataSample

    samples = [SegDataSample(metainfo=dict(ori_shape=image.shape[1:], img_shape=image.shape[1:])) for image in images]
    return dict(inputs=list(images), data_samples=samples)


def noise(seed: int, height: int = 64, width: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 255, (3, height, width), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def predict(model: torch.nn.Module, data: dict):
    with record_inference(model) as record:
        model.test_step(data)
    return record


def test_maps_of_each_image_of_a_batch(model) -> None:
    backbone = find_sparse_backbone(model)
    images = [noise(0), noise(1)]
    record = predict(model, batch(*images))
    assert record.sizes == [(64, 64)] and record.pass_size == (64, 64)
    for index, image in enumerate(images):
        with backbone.record_selections() as records, torch.no_grad():
            backbone(model.data_preprocessor(batch(image), False)['inputs'])
        own = site_maps(records, (60, 50), input_size=(64, 64))
        for expected, got in zip(own, record.maps((60, 50), index), strict=True):
            assert np.array_equal(expected.counts, got.counts)
            assert got.sparsity in (0.5, 0.75)
    assert not np.array_equal(record.maps((64, 64), 0)[0].counts, record.maps((64, 64), 1)[0].counts)


def test_sliding_crops_are_put_together(model) -> None:
    model.test_cfg = ConfigDict(mode='slide', crop_size=(32, 48), stride=(20, 24))
    image = noise(2, 60, 80)
    record = predict(model, batch(image))
    assert record.pass_size == (32, 48)
    backbone = find_sparse_backbone(model)
    tensor = model.data_preprocessor(batch(image), False)['inputs']
    expected = np.zeros((60, 80), int)
    tops, lefts = (0, 20, 28), (0, 24, 32)  # the last crop ends at the edge
    kept = 0
    for top in tops:
        for left in lefts:
            with backbone.record_selections() as records, torch.no_grad():
                backbone(tensor[..., top : top + 32, left : left + 48])
            crop = site_maps(records, (32, 48))[0]
            place = expected[top : top + 32, left : left + 48]
            np.maximum(place, crop.counts, out=place)
            kept += crop.kept
    found = record.maps((60, 80))
    assert np.array_equal(found[0].counts, expected) and found[0].kept == kept
    assert [site.site for site in found] == list(backbone.sites)


def test_nothing_stays_on_the_model(model) -> None:
    hooks = len(model._forward_pre_hooks)
    record = predict(model, batch(noise(0)))
    before = len(record.records)
    with torch.no_grad():
        model.test_step(batch(noise(1)))
    assert len(record.records) == before and len(model._forward_pre_hooks) == hooks
    with pytest.raises(RuntimeError), record_inference(model):
        raise RuntimeError
    assert len(model._forward_pre_hooks) == hooks and find_sparse_backbone(model)._records is None


def test_several_runs_have_no_place_in_one_picture(model) -> None:
    with record_inference(model) as record, torch.no_grad():
        model.test_step(batch(noise(0)))
        model.test_step(batch(noise(0).flip(2)))
    with pytest.raises(ValueError, match='test-time augmentation'):
        record.maps((64, 64))


def test_nothing_recorded(model) -> None:
    with record_inference(model) as record:
        pass
    with pytest.raises(ValueError, match='recorded nothing'):
        record.maps((64, 64))


def test_dense_model() -> None:
    with pytest.raises(ValueError, match='has no sparse backbone'), record_inference(torch.nn.Linear(1, 1)):
        pass
