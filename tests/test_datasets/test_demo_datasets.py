import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.registry import DATASETS

import sparsevit_mm  # noqa: F401  (declares the registries)

pytest.importorskip('skimage')
pytest.importorskip('sklearn')


@pytest.fixture(scope='module')
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small set under the fixed numbers of pictures, so that the datasets take it for complete."""
    from sparsevit_mm.datasets import demo

    patch = pytest.MonkeyPatch()
    patch.setattr(demo, 'SPLITS', {'train': 4, 'val': 3})
    yield str(tmp_path_factory.mktemp('demo') / 'set')
    patch.undo()


def test_registering_imports_no_framework() -> None:
    code = (
        'import sys, sparsevit_mm.registry as r; r.DATASETS.import_from_location();'
        'assert r.DATASETS.get("DemoSegDataset");'
        'assert not {"mmdet", "mmseg", "mmdet3d", "skimage", "sklearn"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


def test_semantic_dataset(demo_root: str) -> None:
    pytest.importorskip('mmseg')
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
    config = dict(type='sparsevit_mm.DemoSegDataset', split='train', data_root=demo_root, pipeline=pipeline)
    dataset = DATASETS.build(config)
    assert len(dataset) == 4
    assert dataset.metainfo['classes'][:2] == ('background', 'zero')
    assert len(dataset.metainfo['classes']) == len(dataset.metainfo['palette']) == 11
    sample = dataset[0]
    assert sample['inputs'].shape == (3, 448, 448)
    labels = sample['data_samples'].gt_sem_seg.data
    assert labels.shape == (1, 448, 448)
    assert 0 < labels.max() <= 10
    assert len(DATASETS.build(dict(config, indices=2))) == 2, 'further arguments reach the stock class'


def test_instance_dataset(demo_root: str) -> None:
    pytest.importorskip('mmdet')
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='PackDetInputs'),
    ]
    dataset = DATASETS.build(
        dict(type='sparsevit_mm.DemoCocoDataset', split='val', data_root=demo_root, pipeline=pipeline)
    )
    assert len(dataset) == 3
    assert len(dataset.metainfo['classes']) == 10
    truth = dataset[0]['data_samples'].gt_instances
    labels = dataset[0]['data_samples'].gt_instances.labels
    assert len(truth.bboxes) == len(truth.masks) == len(labels) > 0
    for box, mask in zip(truth.bboxes.tensor.numpy(), truth.masks.masks):
        left, top, right, bottom = box.astype(int)
        assert mask[top:bottom, left:right].sum() == mask.sum() > 0


def test_unknown_split(demo_root: str) -> None:
    with pytest.raises(ValueError, match="'test', but must be one of train, val"):
        DATASETS.build(dict(type='sparsevit_mm.DemoSegDataset', split='test', data_root=demo_root))


def test_missing_root_is_made(demo_root: str) -> None:
    pytest.importorskip('mmseg')
    fresh = Path(demo_root).with_name('fresh')
    DATASETS.build(dict(type='sparsevit_mm.DemoSegDataset', split='val', data_root=str(fresh), lazy_init=True))
    assert (fresh / 'demo.json').is_file()


def test_another_seed_has_a_place_of_its_own(demo_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('mmseg')
    monkeypatch.setenv('SPARSEVIT_MM_DEMO', demo_root)
    other = DATASETS.build(dict(type='sparsevit_mm.DemoSegDataset', split='val', seed=3, lazy_init=True))
    assert other.data_root == f'{demo_root}-seed3'
    first, second = (Path(root, 'images/val/000000.jpg').read_bytes() for root in (demo_root, other.data_root))
    assert first != second
    with pytest.raises(ValueError, match='seed of the demo set must be an integer from 0 on, got -1'):
        DATASETS.build(dict(type='sparsevit_mm.DemoSegDataset', split='val', seed=-1))
