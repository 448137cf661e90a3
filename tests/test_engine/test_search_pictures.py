from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS
from PIL import Image
from tiny_segmentation import make_project
from torch import nn

from sparsevit_mm.apis import build_model, init_scope, load_config, sparsify_config
from sparsevit_mm.engine.search_pictures import draw_samples
from sparsevit_mm.models import find_sparse_backbone


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    config, checkpoint = make_project(tmp_path_factory.mktemp('tiny'))
    cfg = sparsify_config(load_config(config), 0.25)
    init_scope(cfg)
    model = build_model(cfg, checkpoint)
    return model, find_sparse_backbone(model), DATASETS.build(cfg.train_dataloader.dataset)


def read(path):
    return np.asarray(Image.open(path)).astype(int)


def test_pictures_of_images_spread_over_the_set(project, tmp_path):
    model, backbone, dataset = project
    files = draw_samples(model, backbone, dataset, (0.5, 0.8), tmp_path / 'new' / 'samples')
    names = [
        path.split('/')[-1].removesuffix('.png') for path in (dataset.get_data_info(i)['img_path'] for i in (0, 2, 5))
    ]
    assert [path.name for path in files] == [f'{i + 1}_{name}.jpg' for i, name in enumerate(names)]
    assert all(1000 < path.stat().st_size <= 200_000 for path in files)
    first, second, _ = (read(path) for path in files)
    assert first.std() > 20 and (first.shape != second.shape or np.abs(first - second).mean() > 1)


def test_shows_the_sparsity_asked_for(project, tmp_path):
    model, backbone, dataset = project
    (dense,) = draw_samples(model, backbone, dataset, 0.0, tmp_path / 'dense', count=1)
    (sparse,) = draw_samples(model, backbone, dataset, 0.8, tmp_path / 'sparse', count=1)
    skipped = [(picture[..., 2] > picture[..., 0] + 25).mean() for picture in map(read, (dense, sparse))]
    assert skipped[1] > skipped[0] + 0.1, 'what is skipped is night blue'


def test_backbone_comes_back_as_it_was(project, tmp_path):
    model, backbone, dataset = project
    before = backbone.sparsity
    model.train()
    model.decode_head.eval()
    draw_samples(model, backbone, dataset, 0.5, tmp_path, count=1)
    assert backbone.sparsity == before and model.training and not model.decode_head.training
    model.eval()


def test_image_that_fails_is_left_out(project, tmp_path):
    model, backbone, dataset = project

    class Damaged:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            if index == 1:
                raise OSError('image is truncated')
            return dataset[index]

    files = draw_samples(model, backbone, Damaged(), 0.5, tmp_path)
    assert [path.name[0] for path in files] == ['1', '3']


@pytest.mark.parametrize('sparsity', [(0.5,), 2.0])
def test_nothing_at_an_impossible_sparsity(project, tmp_path, sparsity):
    model, backbone, dataset = project
    before = backbone.sparsity
    assert draw_samples(model, backbone, dataset, sparsity, tmp_path) == []
    assert backbone.sparsity == before


def test_folder_that_cannot_be_made(project, tmp_path):
    (tmp_path / 'file').touch()
    assert draw_samples(*project, 0.5, tmp_path / 'file' / 'samples') == []


def test_data_of_a_monocular_3d_detector(project, tmp_path):
    """Its pipeline gives a dict with the image, and so does its preprocessor."""
    _, backbone, dataset = project

    class Preprocessor(nn.Module):
        def forward(self, data, training):
            images = torch.stack([image.float() / 60 - 2 for image in data['inputs']['img']])
            return {'inputs': {'imgs': images}}

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.data_preprocessor = Preprocessor()

    image = dataset[0]['inputs']
    items = [{'inputs': {'img': image}, 'data_samples': SimpleNamespace(img_path='kitti/000008.png')}]
    (path,) = draw_samples(Detector(), backbone, items, 0.5, tmp_path)
    assert path.name == '1_000008.jpg' and read(path).std() > 20


def test_several_cameras_are_no_image(project, tmp_path):
    model, backbone, _ = project
    items = [{'inputs': torch.zeros(6, 3, 64, 64)}]
    assert draw_samples(model, backbone, items, 0.5, tmp_path) == []


def test_large_image_gives_a_small_file(project, tmp_path):
    _, backbone, _ = project
    noise = torch.randint(0, 256, (3, 600, 800), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    class Preprocessor(nn.Module):
        def forward(self, data, training):
            return {'inputs': torch.stack(data['inputs']).float() / 60 - 2}

    plain = SimpleNamespace(data_preprocessor=Preprocessor(), modules=list, eval=lambda: None)
    (path,) = draw_samples(plain, backbone, [{'inputs': noise}], 0.3, tmp_path)
    assert path.stat().st_size <= 200_000 and max(Image.open(path).size) > 600
    assert path.name == '1_image.jpg'
