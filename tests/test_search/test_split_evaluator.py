import copy
from pathlib import Path

import pytest
from mmengine.config import Config
from split_project import cfg, split

from sparsevit_mm.apis import init_scope
from sparsevit_mm.search.split.evaluator import evaluator_of_part, scorable

__all__ = ['cfg', 'split']
CENTER_DISTANCE = dict(type='sparsevit_mm.CenterDistanceMetric')
NOTE = 'scored by center_distance/mAP, since NuScenesMetric insists on its whole val split'


@pytest.mark.parametrize('name', ['WaymoMetric', 'LyftMetric', 'mmdet.CocoPanopticMetric'])
def test_metric_of_a_whole_set(cfg, split, name):
    cfg.val_evaluator = [dict(type=name, ann_file='x')]
    with pytest.raises(ValueError, match=f'{name.split(".")[-1]} cannot score a part'):
        split()


def test_metric_with_a_file_for_a_set_without(cfg, split, tmp_path):
    (tmp_path / 'train.txt').write_text('1\n')
    cfg.train_dataloader.dataset.dataset.update(
        ann_file='train.txt', type='BaseSegDataset', metainfo=dict(classes=['a'])
    )
    init_scope(Config(dict(default_scope='mmseg')))
    with pytest.raises(ValueError, match='CocoMetric reads an annotation file'):
        split(images=1)


class NuScenesMetric:
    """Stands for the class, which a config may hold in the place of its name."""


@pytest.mark.parametrize('kind', ['NuScenesMetric', 'mmdet3d.NuScenesMetric', NuScenesMetric])
@pytest.mark.parametrize(
    'place', [lambda metric: metric, lambda metric: [metric], lambda metric: {'metrics': [metric]}]
)
def test_another_metric_stands_in(kind, place):
    given = place(dict(type=kind, data_root='data', ann_file='data/val.pkl', metric='bbox'))
    before = copy.deepcopy(given)
    evaluator, notes = scorable(given)
    assert evaluator == evaluator_of_part(evaluator, None) == place(CENTER_DISTANCE)
    assert notes == [NOTE]
    assert given == before


def test_stand_in_is_told_and_told_apart(cfg, split):
    plain = split()
    cfg.val_evaluator = dict(type='NuScenesMetric', ann_file='x')
    chosen = split(rungs=(2,))
    assert chosen.evaluator == CENTER_DISTANCE
    assert chosen.description == f'{plain.description}; {NOTE}; candidates are stopped after 2 of them'
    assert chosen.fingerprint['evaluator'] == CENTER_DISTANCE


def test_outputs_are_not_written():
    options = dict(outfile_prefix='a', output_dir='b', pklfile_prefix='c', submission_prefix='d', format_only=True)
    given = [dict(type='IoUMetric', **options), dict(type='CocoMetric', ann_file='val.json', classwise=True)]
    evaluator = evaluator_of_part(given, Path('part.json'))
    assert evaluator == [dict(type='IoUMetric'), dict(type='CocoMetric', ann_file='part.json', classwise=True)]
    assert given[0] == dict(type='IoUMetric', **options)
