import math

import pytest

from sparsevit_mm.search import higher_is_better, pick_metric


@pytest.mark.parametrize(
    ('metrics', 'name', 'picked'),
    [
        ({'coco/segm_mAP': 0.3, 'coco/bbox_mAP': 0.4}, None, 'coco/bbox_mAP'),
        ({'coco/segm_mAP': 0.3, 'coco/bbox_mAP': 0.4}, 'segm_mAP', 'coco/segm_mAP'),
        ({'coco/bbox_mAP_copypaste': '0.4 0.5', 'coco/bbox_mAP': 0.4}, None, 'coco/bbox_mAP'),
        ({'aAcc': 90.0, 'mIoU': 50.0, 'mAcc': 60.0}, None, 'mIoU'),
        ({'NuScenes metric/pred/mATE': 0.5, 'NuScenes metric/pred/NDS': 0.4}, None, 'NuScenes metric/pred/NDS'),
        ({'mine': 1, 'other': 2}, None, 'mine'),
    ],
)
def test_pick(metrics, name, picked):
    assert pick_metric(metrics, name) == picked


def test_unknown_one_lists_the_known():
    with pytest.raises(ValueError, match=r"metric 'AP' is not among what the evaluator gives: a/mAP, b/mAP"):
        pick_metric({'a/mAP': 1.0, 'b/mAP': 2.0, 'text': 'x'}, 'AP')


def test_ambiguous_one():
    with pytest.raises(ValueError, match="'mAP' is ambiguous among"):
        pick_metric({'a/mAP': 1.0, 'b/mAP': 2.0}, 'mAP')


@pytest.mark.parametrize('metrics', [{}, {'text': 'x'}, {'mIoU': math.nan}])
def test_nothing_to_go_by(metrics):
    with pytest.raises(ValueError, match='no number that a search could go by'):
        pick_metric(metrics)


@pytest.mark.parametrize('name', ['mIoU', 'coco/bbox_mAP', 'accuracy/top1', 'NDS', 'PQ', 'Car_3D_AP40_moderate_strict'])
def test_higher(name):
    assert higher_is_better(name)


@pytest.mark.parametrize('name', ['loss', 'val/loss_bbox', 'rmse', 'abs_rel', 'x/mATE', 'depth_error', 'MAE'])
def test_lower(name):
    assert not higher_is_better(name)
