import copy
import json
import pickle

import pytest
from mmengine.config import Config

from sparsevit_mm.apis import init_scope, load_config
from sparsevit_mm.search.split import split_for_search


def coco(number):
    return {
        'images': [{'id': 10 + i, 'file_name': f'{i}.jpg', 'height': 8, 'width': 8} for i in range(number)],
        'annotations': [
            {'id': i, 'image_id': 10 + i // 2, 'category_id': 1, 'bbox': [0, 0, 4, 4]} for i in range(2 * number)
        ],
        'categories': [{'id': 1, 'name': 'digit'}],
    }


@pytest.fixture
def cfg(tmp_path):
    """A detection config in mmdet's manner, with ten training and four validation images."""
    for name, number in (('train', 10), ('val', 4)):
        (tmp_path / f'{name}.json').write_text(json.dumps(coco(number)))

    def loader(name, pipeline):
        dataset = dict(type='CocoDataset', data_root=str(tmp_path), ann_file=f'{name}.json', pipeline=pipeline)
        return dict(batch_size=3, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True), dataset=dataset)

    train = loader('train', [dict(type='RandomFlip')])
    train['dataset'] = dict(type='RepeatDataset', times=3, dataset={**train['dataset'], 'filter_cfg': dict(min_size=9)})
    val = loader('val', [dict(type='Resize')])
    return Config(
        dict(
            train_dataloader=train,
            val_dataloader=val,
            test_dataloader=copy.deepcopy(val),
            val_evaluator=dict(
                type='CocoMetric', ann_file=f'{tmp_path}/val.json', format_only=True, outfile_prefix='x'
            ),
        )
    )


@pytest.fixture
def split(cfg, tmp_path):
    def choose(**options):
        return split_for_search(cfg, **{'images': 4, 'seed': 0, 'folder': tmp_path / 'work', **options})

    return choose


def ids_of(path):
    return [image['id'] for image in json.loads(path.read_text())['images']]


class TestCoco:
    def test_images_are_of_the_training_set_and_go_with_their_annotations(self, split, tmp_path):
        chosen = split()
        part = json.loads((tmp_path / 'work' / 'search_split.json').read_text())
        ids = [image['id'] for image in part['images']]
        assert len(set(ids)) == 4 and set(ids) <= set(range(10, 20))
        assert [a['image_id'] for a in part['annotations']] == [i for i in ids for _ in range(2)]
        assert part['categories'] == coco(1)['categories']
        dataset = chosen.dataloader['dataset']
        assert dataset['ann_file'] == chosen.evaluator['ann_file'] == str(tmp_path / 'work' / 'search_split.json')

    def test_are_seen_through_the_test_pipeline_once_each(self, split):
        loader = split().dataloader
        assert loader['dataset']['pipeline'] == [dict(type='Resize')]
        assert loader['dataset']['test_mode'] and 'filter_cfg' not in loader['dataset']
        assert loader['sampler'] == dict(type='DefaultSampler', shuffle=False) and loader['batch_size'] == 3

    def test_evaluator_scores_instead_of_writing_files(self, split):
        evaluator = split().evaluator
        assert 'format_only' not in evaluator and 'outfile_prefix' not in evaluator

    def test_seed_decides(self, split, tmp_path):
        path = tmp_path / 'work' / 'search_split.json'
        split(seed=0)
        first = ids_of(path)
        split(seed=1)
        other = ids_of(path)
        split(seed=0)
        assert ids_of(path) == first != other

    def test_half_of_a_small_set_is_taken_unless_told_otherwise(self, split, tmp_path):
        assert '5 of 10 training images' in split(images=None).description
        assert '10 of 10' in split(images=99).description

    def test_config_is_left_alone(self, cfg, split):
        before = cfg.to_dict()
        split()
        assert cfg.to_dict() == before

    def test_fingerprint_tells_choices_apart_but_not_work_dirs(self, split, tmp_path):
        same = split(folder=tmp_path / 'elsewhere').fingerprint
        assert split().fingerprint == same
        assert split(seed=1).fingerprint != same != split(images=5).fingerprint

    def test_only_the_first_rank_writes(self, split, tmp_path):
        split(write=False)
        assert not (tmp_path / 'work').exists()


def test_infos_of_mmdet3d(cfg, tmp_path):
    infos = {'metainfo': {'dataset': 'kitti'}, 'data_list': [{'sample_idx': i} for i in range(10)]}
    (tmp_path / 'infos_train.pkl').write_bytes(pickle.dumps(infos))
    cfg.train_dataloader.dataset.dataset.ann_file = 'infos_train.pkl'
    cfg.val_evaluator = dict(type='KittiMetric', ann_file='infos_val.pkl', pklfile_prefix='x')
    chosen = split_for_search(cfg, images=3, seed=0, folder=tmp_path)
    part = pickle.loads((tmp_path / 'search_split.pkl').read_bytes())
    assert part['metainfo'] == infos['metainfo']
    assert len(part['data_list']) == 3 and all(entry in infos['data_list'] for entry in part['data_list'])
    assert chosen.evaluator == dict(type='KittiMetric', ann_file=str(tmp_path / 'search_split.pkl'))


def test_own_dataloader(cfg, split, tmp_path):
    cfg.search_dataloader = dict(dataset=dict(type='CocoDataset', ann_file='mine.json'), batch_size=1)
    with pytest.raises(ValueError, match='search_dataloader, but no search_evaluator'):
        split()
    cfg.search_evaluator = dict(type='CocoMetric', ann_file='mine.json')
    chosen = split()
    assert chosen.dataloader == cfg.search_dataloader and chosen.evaluator == cfg.search_evaluator
    assert 'mine.json' in chosen.description
    cfg.search_dataloader.dataset = copy.deepcopy(cfg.test_dataloader.dataset)
    with pytest.raises(ValueError, match='search_dataloader and test_dataloader both read'):
        split()


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

    @pytest.mark.parametrize('name', ['NuScenesMetric', 'mmdet.CocoPanopticMetric'])
    def test_metric_of_a_whole_set(self, cfg, split, name):
        cfg.val_evaluator = [dict(type=name, ann_file='x')]
        with pytest.raises(ValueError, match=f'{name.split(".")[-1]} cannot score a part'):
            split()

    def test_metric_with_a_file_for_a_set_without(self, cfg, split, tmp_path):
        (tmp_path / 'train.txt').write_text('1\n')
        cfg.train_dataloader.dataset.dataset.update(
            ann_file='train.txt', type='BaseSegDataset', metainfo=dict(classes=['a'])
        )
        init_scope(Config(dict(default_scope='mmseg')))
        with pytest.raises(ValueError, match='CocoMetric reads an annotation file'):
            split(images=1)


@pytest.mark.data
@pytest.mark.parametrize(
    ('name', 'total'),
    [
        ('mask-rcnn_swin-t-p4-w7_fpn_24e_coco-mini', 100),
        ('upernet_swin-t-p4-w7_4k_camvid-360x480', 367),
        ('pgd_swin-t-p4-w7_fpn_48e_kitti-mini-mono3d', 25),
    ],
)
def test_real_sets_are_read_in_part(name, total, tmp_path, data_root):
    from mmengine.runner import Runner

    cfg = load_config(data_root.parent / 'configs' / 'sparsevit' / f'{name}.py')
    init_scope(cfg)
    chosen = split_for_search(cfg, images=3, seed=0, folder=tmp_path)
    assert f'3 of {total} training images' in chosen.description
    dataset = Runner.build_dataloader({**chosen.dataloader, 'num_workers': 0, 'persistent_workers': False}).dataset
    assert len(dataset) == 3
    assert dataset[0]['data_samples'].img_path
