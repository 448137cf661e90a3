import copy
import json
import pickle
from pathlib import Path

import pytest
from mmengine.config import Config
from split_project import build, cfg, coco, split
from tiny_nuscenes import make_nuscenes

from sparsevit_mm.apis import init_scope, load_config
from sparsevit_mm.search.split import split_for_search

__all__ = ['cfg', 'split']
ROOT = Path(__file__).parents[2]


class TestRefusals:
    def test_reported_set(self, cfg, split):
        cfg.train_dataloader.dataset.dataset.ann_file = 'val.json'
        with pytest.raises(ValueError, match=r'both read .*val\.json.*must not choose by the set that is reported'):
            split()

    def test_missing_file(self, cfg, split):
        cfg.train_dataloader.dataset.dataset.ann_file = 'nowhere.json'
        with pytest.raises(ValueError, match=r'training set is missing: there is no .*nowhere\.json'):
            split()

    def test_empty_file(self, split, tmp_path):
        (tmp_path / 'train.json').write_text(json.dumps(coco(0)))
        with pytest.raises(ValueError, match=r'training set is empty: .*train\.json'):
            split()

    def test_damaged_file(self, split, tmp_path):
        (tmp_path / 'train.json').write_text('{"images": [')
        with pytest.raises(ValueError, match=r'annotation file .*train\.json cannot be read'):
            split()

    def test_no_training_set(self, cfg, split):
        cfg.pop('train_dataloader')
        with pytest.raises(ValueError, match=r'no train_dataloader.*search_dataloader and search_evaluator'):
            split()

    def test_several_sets(self, cfg, split):
        cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[cfg.train_dataloader.dataset])
        with pytest.raises(ValueError, match='ConcatDataset of several'):
            split()

    def test_nothing_tells_sets_apart(self, split, cfg):
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            loader.dataset = dict(type='sparsevit_mm.DemoSegDataset', split='val', pipeline=[])
        with pytest.raises(ValueError, match=r"both read sparsevit_mm\.DemoSegDataset\(split='val'\)"):
            split()

    def test_set_that_is_reported_among_others(self, cfg, split):
        train = copy.deepcopy(cfg.train_dataloader.dataset)
        cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[cfg.test_dataloader.dataset, train])
        with pytest.raises(ValueError, match=r'train_dataloader and test_dataloader both read .*train\.json'):
            split()

    def test_folder_without_images(self, cfg, split, tmp_path):
        (tmp_path / 'images').mkdir()
        init_scope(Config(dict(default_scope='mmseg')))
        dataset = dict(type='BaseSegDataset', data_root=str(tmp_path), metainfo=dict(classes=['a']))
        cfg.train_dataloader.dataset = {**dataset, 'data_prefix': dict(img_path='images', seg_map_path='images')}
        cfg.val_evaluator = dict(type='IoUMetric')
        with pytest.raises(ValueError, match=r'training set is empty: .*images\. Check its paths'):
            split()
        cfg.train_dataloader.dataset.data_prefix.img_path = 'nowhere'
        with pytest.raises(ValueError, match=r'training set is missing: there is no .*nowhere'):
            split()


@pytest.mark.parametrize('wrapper', ['RepeatDataset', 'ClassBalancedDataset', 'mmdet.MultiImageMixDataset'])
def test_wrappers_of_training_are_taken_off(cfg, split, wrapper):
    inner = cfg.train_dataloader.dataset.dataset
    cfg.train_dataloader.dataset = dict(type=wrapper, dataset=dict(type='RepeatDataset', times=2, dataset=inner))
    chosen = split()
    assert chosen.dataloader['dataset']['type'] == 'CocoDataset'
    assert '4 of 10 training images' in chosen.description


def test_image_of_nuscenes_is_one_of_a_camera(tmp_path):
    """Four moments of six cameras are 24 images, any of which may be chosen."""
    pytest.importorskip('mmdet3d')
    cfg = load_config(make_nuscenes(tmp_path / 'nuscenes', train=4))
    init_scope(cfg)
    chosen = split_for_search(cfg, images=10, seed=0, folder=tmp_path, rungs=(4,))
    assert '10 of 24 training images' in chosen.description
    dataset = build(chosen.dataloader)
    assert len(dataset) == 10
    names = [dataset[i]['data_samples'].img_path for i in range(10)]
    assert len(set(names)) == 10 and all(Path(name).is_file() for name in names)
    whole = dict(cfg.train_dataloader.dataset, test_mode=True, pipeline=cfg.val_dataloader.dataset.pipeline)
    truth = {}
    for sample in (sample['data_samples'] for sample in build(dict(chosen.dataloader, dataset=whole))):
        truth[sample.img_path] = sample.eval_ann_info['gt_bboxes_3d'].tensor
    for sample in (dataset[i]['data_samples'] for i in range(10)):
        assert sample.eval_ann_info['gt_bboxes_3d'].tensor.equal(truth[sample.img_path])
    assert sum(len(boxes) for boxes in truth.values())
    part = pickle.loads((tmp_path / 'search_split_4.pkl').read_bytes())
    assert [list(entry['images']) for entry in part['data_list']] == [[Path(name).parent.name] for name in names[:4]]


def assert_read_in_part(config, total, tmp_path, rungs):
    """Every image of a part is read, once, and the files of rungs hold the first ones, in the data set's order."""
    cfg = load_config(ROOT / 'configs' / config)
    init_scope(cfg)
    chosen = split_for_search(cfg, images=6, seed=0, folder=tmp_path, rungs=rungs)
    assert f'6 of {total} training images' in chosen.description
    dataset = build(chosen.dataloader)
    paths = [dataset[i]['data_samples'].img_path for i in range(len(dataset))]
    assert len(set(paths)) == 6 and all(Path(path).is_file() for path in paths)
    for rung in chosen.rungs:
        evaluator = rung.evaluator[0] if isinstance(rung.evaluator, list) else rung.evaluator
        if 'ann_file' in evaluator:
            content = json.loads(Path(evaluator['ann_file']).read_text())
            names = [
                image['file_name'] if 'file_name' in image else image['images']['CAM2']['img_path']
                for image in content.get('images', content.get('data_list'))
            ]
            assert [Path(path).name for path in paths[: rung.images]] == [Path(name).name for name in names]
    return cfg, chosen


@pytest.mark.data
@pytest.mark.parametrize('rungs', [(), (2, 3)])
@pytest.mark.parametrize(
    ('name', 'total'),
    [
        ('mask-rcnn_swin-t-p4-w7_fpn_24e_coco-mini', 100),
        ('upernet_swin-t-p4-w7_4k_camvid-360x480', 367),
        ('pgd_swin-t-p4-w7_fpn_48e_kitti-mini-mono3d', 25),
    ],
)
def test_real_sets_are_read_in_part(name, total, rungs, tmp_path, data_root, monkeypatch):
    monkeypatch.chdir(data_root.parent)
    assert_read_in_part(f'sparsevit/{name}.py', total, tmp_path, rungs)


@pytest.mark.slow
@pytest.mark.parametrize('rungs', [(), (2, 3)])
@pytest.mark.parametrize(
    'name', ['mask-rcnn_swin-mini-p4-w7_fpn_12e_demo-448x448', 'upernet_swin-mini-p4-w7_800i_demo-448x448']
)
def test_demo_sets_are_read_in_part(name, rungs, tmp_path):
    cfg, _ = assert_read_in_part(f'demo/{name}.py', 240, tmp_path, rungs)
    cfg.train_dataloader.dataset.split = 'val'
    with pytest.raises(ValueError, match='must not choose by the set that is reported'):
        split_for_search(cfg, images=6, seed=0, folder=tmp_path)
