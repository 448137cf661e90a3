"""A detection config in mmdet's manner, whose images a search chooses from."""

import copy
import json

import pytest
from mmengine.config import Config

from sparsevit_mm.search.split import split_for_search

__all__ = ['build', 'cfg', 'coco', 'ids_of', 'split']


def coco(number):
    return {
        'images': [{'id': 10 + i, 'file_name': f'{i}.jpg', 'height': 8, 'width': 8} for i in range(number)],
        'annotations': [
            {'id': i, 'image_id': 10 + i // 2, 'category_id': 1, 'bbox': [0, 0, 4, 4], 'area': 16, 'iscrowd': 0}
            for i in range(2 * number)
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


def build(loader):
    from mmengine.runner import Runner

    return Runner.build_dataloader({**loader, 'num_workers': 0, 'persistent_workers': False}).dataset
