"""A small segmentor and a small detector looked at, dense and sparse."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_segmentation import make_project

pytest.importorskip('mmseg')

from sparsevit_mm.apis import build_model, load_config, sparsify_config
from sparsevit_mm.cost import count_macs
from sparsevit_mm.models import PrunedViT, find_sparse_backbone
from sparsevit_mm.visualization import ImageReader, Inspector, MapChange, UnreadableImage, macs_share


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('tiny')
    make_project(folder)
    return folder


@pytest.fixture
def inspector(folder: Path) -> Inspector:
    cfg = sparsify_config(load_config(folder / 'stock.py'), (0.5, 0.75))
    model = build_model(cfg, str(folder / 'dense.pth'))
    return Inspector(model, ImageReader(model.cfg, model))


def image(folder: Path) -> Path:
    return folder / 'data' / 'val' / 'images' / '0.png'


@torch.no_grad()
def test_dense_and_sparse_prediction_with_what_changes(inspector: Inspector, folder: Path) -> None:
    seen = inspector(image(folder), compare=True)
    backbone = inspector.backbone
    assert backbone.sparsity == (0.5, 0.75)
    batch = seen.item.batch
    sparse = inspector.model.test_step(batch())[0].pred_sem_seg.data[0].numpy()
    backbone.sparsity = 0.0
    dense = inspector.model.test_step(batch())[0].pred_sem_seg.data[0].numpy()
    assert isinstance(seen.change, MapChange) and np.array_equal(seen.change.changed, dense != sparse)
    assert 0 < seen.change.share < 1
    assert not np.array_equal(seen.prediction, seen.dense_prediction)
    assert np.array_equal(seen.classes[0], sparse) and np.array_equal(seen.classes[1], dense)


def test_numbers_of_an_image(inspector: Inspector, folder: Path) -> None:
    seen = inspector(image(folder))
    assert seen.change is None and seen.dense_prediction is None
    assert seen.kept_share == pytest.approx((0.5 + 0.25) / 2)
    macs = count_macs(inspector.backbone, (64, 64))
    inspector.backbone.sparsity = 0.0
    assert seen.macs_share == pytest.approx(macs / count_macs(inspector.backbone, (64, 64)))
    assert inspector.describe().startswith('SparseSwin at sparsity stage1.pair1 0, stage2.pair1 0')


def test_predictions_at_the_size_of_the_file(inspector: Inspector, folder: Path, tmp_path: Path) -> None:
    large = cv2.resize(cv2.imread(str(image(folder))), (160, 128))
    cv2.imwrite(str(tmp_path / 'large.png'), large)
    steps = inspector.model.cfg.test_dataloader.dataset.pipeline
    steps.insert(1, dict(type='Resize', scale=(80, 64), keep_ratio=True))
    inspector.read = ImageReader(inspector.model.cfg, inspector.model)
    seen = inspector(tmp_path / 'large.png', compare=True)
    assert seen.item.picture.shape == (64, 80, 3) and seen.maps[0].counts.shape == (64, 80)
    assert seen.canvas.shape == seen.prediction.shape == (128, 160, 3)
    assert seen.change.changed.shape == (128, 160)


def test_sparsity_comes_back_when_a_prediction_fails(inspector: Inspector, folder: Path, monkeypatch) -> None:
    def fail(*args, **kwargs):
        raise RuntimeError('out of memory')

    monkeypatch.setattr(inspector.model, 'test_step', fail)
    with pytest.raises(RuntimeError):
        inspector(image(folder), compare=True)
    assert inspector.backbone.sparsity == (0.5, 0.75)


def test_unreadable_image(inspector: Inspector, tmp_path: Path) -> None:
    (tmp_path / 'broken.png').write_text('no image')
    for name in ('broken.png', 'gone.png'):
        with pytest.raises(UnreadableImage, match=name):
            inspector(tmp_path / name)


def test_dense_model(folder: Path) -> None:
    model = build_model(load_config(folder / 'stock.py'))
    with pytest.raises(ValueError, match='has no sparse backbone'):
        Inspector(model, ImageReader(model.cfg, model))


@torch.no_grad()
def test_macs_of_images_with_counts_of_their_own() -> None:
    torch.manual_seed(0)
    backbone = PrunedViT(
        img_size=64, patch_size=8, embed_dims=32, num_layers=4, num_heads=4, out_indices=(3,), site_blocks=(1, 2),
        counts='adaptive', sparsity=(0.3, 0.5), selector=dict(type='sparsevit_mm.MultiHeadSelector', draw='gumbel'),
    ).eval()  # fmt: skip
    assert macs_share(backbone, (64, 64)) is None
    kept, shares = [], []
    for image in torch.randn(6, 1, 3, 64, 64):
        with backbone.record_selections() as records:
            backbone(image)
        kept.append(sum(int(record.counts[0]) for record in records))
        shares.append(macs_share(backbone, (64, 64), image))
    assert backbone.sparsity == (0.3, 0.5) and len(set(kept)) > 1
    assert shares[int(np.argmax(kept))] > shares[int(np.argmin(kept))]
    # Blocks 1 to 3 of 4 run on what stays; all tokens of 64 are the share of the dense model, with selectors beside.
    assert all(share == pytest.approx(0.25 + 0.75 * count / (3 * 64), abs=0.1) for count, share in zip(kept, shares))


def test_backbone_is_found_in_the_model(inspector: Inspector) -> None:
    assert inspector.backbone is find_sparse_backbone(inspector.model)
