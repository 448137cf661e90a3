import copy
import json
import pickle

import pytest
from mmengine.config import Config
from split_project import cfg, coco, ids_of, split

from sparsevit_mm.apis import init_scope
from sparsevit_mm.search.split import Rung, split_for_search

__all__ = ['cfg', 'split']


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

    def test_no_images(self, split):
        with pytest.raises(ValueError, match='number of search images must be at least 1, got 0'):
            split(images=0)

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


class TestRungs:
    def test_first_images_are_a_random_part_of_the_next(self, split, tmp_path):
        chosen = split(images=8, rungs=(2, 0.5))
        assert [rung.images for rung in chosen.rungs] == [2, 4, 8]
        work = tmp_path / 'work'
        files = [work / f'search_split{part}.json' for part in ('_2', '_4', '')]
        assert [rung.evaluator['ann_file'] for rung in chosen.rungs] == list(map(str, files))
        two, four, all_ids = map(ids_of, files)
        split(images=8, folder=tmp_path / 'plain')
        plain = ids_of(tmp_path / 'plain' / 'search_split.json')
        assert all_ids[:2] == two and all_ids[:4] == four and len(set(all_ids)) == 8
        assert set(all_ids) == set(plain), 'the same images as without rungs'
        part = json.loads(files[0].read_text())
        assert {a['image_id'] for a in part['annotations']} == set(two) and len(part['annotations']) == 4

    def test_first_images_are_those_of_the_seed(self, split, tmp_path):
        firsts = set()
        for seed in range(10):
            split(images=8, rungs=(1,), seed=seed)
            firsts.add(ids_of(tmp_path / 'work' / 'search_split_1.json')[0])
        assert len(firsts) > 3, 'not the first of the data set each time'
        split(images=8, rungs=(1, 4), seed=9)
        assert ids_of(tmp_path / 'work' / 'search_split_1.json')[0] in firsts

    def test_all_images_are_the_last_rung(self, split):
        for chosen in (split(), split(rungs=(2,))):
            assert chosen.rungs[-1] == Rung(4, chosen.evaluator)
        assert len(split().rungs) == 1

    def test_those_that_coincide_are_left_out(self, split):
        assert [rung.images for rung in split(images=3, rungs=(0.1, 0.2, 0.5, 3, 40)).rungs] == [1, 2, 3]
        plain = split()
        assert split(rungs=(4, 100)) == plain

    def test_description_and_fingerprint_tell_of_them(self, split):
        plain = split(images=8)
        assert 'rungs' not in plain.fingerprint and 'stopped' not in plain.description
        two, one = split(images=8, rungs=(2, 4)), split(images=8, rungs=(0.25,))
        assert two.description == f'{plain.description}; candidates are stopped after 2 or 4 of them'
        assert one.description.endswith('; candidates are stopped after 2 of them')
        assert two.fingerprint == {**plain.fingerprint, 'rungs': [2, 4]}
        assert one.fingerprint == split(images=8, rungs=(2,)).fingerprint

    @pytest.mark.parametrize('rung', [0, -3, 0.0, 1.0, 2.5, -0.1, True, '10', float('nan')])
    def test_out_of_range(self, split, rung):
        with pytest.raises(ValueError, match=f'rungs has {rung!r}, but a rung is a fraction .* between 0 and 1'):
            split(rungs=(0.25, rung))

    def test_out_of_order(self, split):
        with pytest.raises(ValueError, match=r'rungs must ascend, but 0\.25 of 8 images comes after 4'):
            split(images=8, rungs=(4, 0.25))

    def test_only_the_first_rank_writes(self, split, tmp_path):
        split(write=False, rungs=(2,))
        assert not (tmp_path / 'work').exists()


class TestOwnImages:
    @pytest.fixture
    def own(self, cfg, tmp_path):
        (tmp_path / 'mine.json').write_text(json.dumps(coco(6)))
        cfg.search_dataloader = copy.deepcopy(cfg.val_dataloader)
        cfg.search_dataloader.dataset.ann_file = 'mine.json'
        cfg.search_dataloader.sampler.shuffle = False
        cfg.search_evaluator = dict(type='VOCMetric')
        return cfg

    def test_are_taken_as_they_are(self, own, split):
        chosen = split()
        assert chosen.dataloader == own.search_dataloader and chosen.evaluator == own.search_evaluator
        assert chosen.rungs == (Rung(None, chosen.evaluator),)
        assert 'mine.json' in chosen.description and 'rungs' not in chosen.fingerprint

    def test_have_an_evaluator(self, own, split):
        own.pop('search_evaluator')
        with pytest.raises(ValueError, match='search_dataloader, but no search_evaluator'):
            split()

    def test_are_not_those_that_are_reported(self, own, split):
        own.search_dataloader.dataset = copy.deepcopy(own.test_dataloader.dataset)
        with pytest.raises(ValueError, match='search_dataloader and test_dataloader both read'):
            split()

    def test_may_be_of_several_sets_none_of_them_reported(self, own, split):
        mine = own.search_dataloader.dataset
        own.search_dataloader.dataset = dict(type='ConcatDataset', datasets=[mine, copy.deepcopy(mine)])
        assert 'mine.json' in split().description
        own.search_dataloader.dataset.datasets[1].ann_file = 'val.json'
        with pytest.raises(ValueError, match=r'search_dataloader and test_dataloader both read .*val\.json'):
            split()

    def test_are_there(self, own, split, tmp_path):
        (tmp_path / 'mine.json').unlink()
        with pytest.raises(ValueError, match=r'search set is missing: there is no .*mine\.json.*search_dataloader'):
            split()

    def test_are_scored_in_steps(self, own, split):
        init_scope(Config(dict(default_scope='mmdet')))
        own.search_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=own.search_dataloader.dataset)
        own.search_dataloader.dataset.dataset.update(pipeline=[], data_prefix=dict(img=''))
        chosen = split(rungs=(0.25, 5))
        assert [rung.images for rung in chosen.rungs] == [3, 5, 12]
        assert all(rung.evaluator == own.search_evaluator for rung in chosen.rungs)
        assert chosen.description.endswith('candidates are stopped after 3 or 5 of its 12 images')
        assert chosen.fingerprint == {**split().fingerprint, 'rungs': [3, 5]}

    @pytest.mark.parametrize(
        'evaluator',
        [dict(type='CocoMetric', ann_file='mine.json'), [dict(type='VOCMetric'), dict(type='NuScenesMetric')]],
    )
    def test_in_steps_only_if_no_metric_misses_the_others(self, own, split, evaluator):
        own.search_evaluator = evaluator
        assert split().rungs[0].images is None
        with pytest.raises(ValueError, match=r'count as misses. Leave multi-fidelity off, or take search_dataloader'):
            split(rungs=(2,))

    def test_in_steps_only_in_one_order(self, own, split):
        own.search_dataloader.sampler.shuffle = True
        with pytest.raises(ValueError, match=r'search_dataloader has the sampler .*shuffle=False.*multi-fidelity off'):
            split(rungs=(2,))
