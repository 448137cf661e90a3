import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData
from mmengine.visualization import Visualizer

from sparsevit_mm.visualization import PredictionPainter, class_colours, stock_visualizer
from sparsevit_mm.visualization.predictions import fit_image

GREY = np.full((60, 90, 3), 120, np.uint8)
META = dict(classes=('ground', 'car', 'tree'), palette=[[10, 20, 30], [250, 0, 0], [0, 250, 0]])


def segmentation(truth: int | None = None):
    values = torch.zeros(1, 60, 90, dtype=torch.long)
    values[..., 45:] = 1
    sample = pytest.importorskip('mmseg.structures').SegDataSample(pred_sem_seg=PixelData(data=values))
    if truth is not None:
        sample.gt_sem_seg = PixelData(data=torch.full((1, 60, 90), truth))
    return sample


def detection(count: int = 1, masks: bool = True):
    found = InstanceData(
        bboxes=torch.tensor([[10.0, 10, 50, 40]])[:count],
        scores=torch.tensor([0.9])[:count],
        labels=torch.tensor([1])[:count],
    )
    if masks:
        found.masks = torch.zeros(count, 60, 90, dtype=torch.bool)
        found.masks[:, 10:40, 10:50] = True
    return pytest.importorskip('mmdet.structures').DetDataSample(pred_instances=found)


def mono3d():
    structures = pytest.importorskip('mmdet3d.structures')
    boxes = structures.CameraInstance3DBoxes(torch.tensor([[0.0, 1.0, 10.0, 4.0, 2.0, 2.0, 0.3]]))
    camera = [[90.0, 0, 45, 0], [0, 90, 30, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    sample = structures.Det3DDataSample(metainfo=dict(cam2img=camera, scale_factor=1.0))
    sample.pred_instances_3d = InstanceData(bboxes_3d=boxes, scores_3d=torch.tensor([0.9]), labels_3d=torch.tensor([1]))
    sample.pred_instances = InstanceData()
    return sample


def painter_of(sample, **options) -> PredictionPainter:
    return PredictionPainter(stock_visualizer(sample, META), **options)


def changed(picture: np.ndarray) -> np.ndarray:
    return (np.abs(picture.astype(int) - 120) > 8).any(-1)


def test_classes_in_their_colours_and_labels_apart_from_predictions() -> None:
    sample = segmentation(truth=2)
    painter = painter_of(sample)
    predicted, labels = painter.paint(GREY, sample), painter.paint(GREY, sample, truth=True)
    assert predicted.shape == labels.shape == GREY.shape
    assert predicted[:, 45:, 0].min() > predicted[:, 45:, 1].max() + 50 and predicted[:, :45].max() < 120
    assert labels[..., 1].min() > labels[..., 0].max() + 50


def test_boxes_and_masks() -> None:
    for masks in (True, False):
        sample = detection(masks=masks)
        drawn = changed(painter_of(sample).paint(GREY, sample))
        assert drawn[8:13, 20:40].any() and not drawn[45:, 55:].any()
        assert drawn[20:30, 35:45].all() == masks


def test_nothing_found_is_the_plain_image() -> None:
    for sample in (detection(0), detection(0, masks=False), detection()):
        assert np.array_equal(painter_of(sample, score_thr=0.95).paint(GREY, sample), GREY)


def test_boxes_in_space() -> None:
    sample = mono3d()
    drawn = changed(painter_of(sample).paint(GREY, sample))
    assert drawn[20:45, 25:65].sum() > 50 and not drawn[:15].any()
    sample.pred_instances_3d.scores_3d[:] = 0.1
    assert np.array_equal(painter_of(sample).paint(GREY, sample), GREY)


def test_centers_of_boxes_in_space() -> None:
    sample = mono3d()
    painter = PredictionPainter(stock_visualizer(sample, META, camera=False))
    red = painter.paint_centers(GREY, sample)
    assert (red[30, 45] > (150, 0, 0)).all() and red[30, 45, 1] < 110
    assert not changed(red)[:, :30].any()


def test_large_images_are_made_smaller() -> None:
    sample = detection()
    picture = painter_of(sample, longest=45).paint(GREY, sample)
    assert picture.shape == (30, 45, 3) and changed(picture)[5:20, 5:25].mean() > 0.5
    image, factor = fit_image(GREY, 4000)
    assert image is GREY and factor == 1


def test_backends_get_nothing_and_settings_stay() -> None:
    sample = segmentation()
    stored = []
    visualizer = stock_visualizer(sample, META)
    visualizer.alpha = 0.25
    visualizer._vis_backends = {'own': SimpleNamespace(add_image=lambda *args: stored.append(args))}
    picture = PredictionPainter(visualizer).paint(GREY, sample)
    assert not stored and list(visualizer._vis_backends) == ['own']
    assert picture[0, -1].tolist() == [int(0.75 * 120 + 0.25 * 250), 90, 90]


def test_stock_visualizer_is_not_what_hooks_take_for_the_one_of_the_run() -> None:
    own = Visualizer.get_instance('own-of-the-run')
    stock_visualizer(segmentation(), META)
    assert Visualizer.get_current_instance() is own


def test_random_numbers_go_on_as_if_nothing_was_drawn() -> None:
    sample = detection()
    painter = painter_of(sample)
    np.random.seed(1)
    random.seed(1)
    torch.manual_seed(1)
    expected = [np.random.rand(), random.random(), float(torch.rand(1))]
    np.random.seed(1)
    random.seed(1)
    torch.manual_seed(1)
    painter.paint(GREY, sample)
    assert [np.random.rand(), random.random(), float(torch.rand(1))] == expected


@pytest.mark.parametrize('meta', [None, {}, dict(classes=META['classes'], palette='random')])
def test_data_sets_without_names_or_colours(meta: dict | None) -> None:
    sample = segmentation()
    visualizer = stock_visualizer(sample, meta)
    picture = PredictionPainter(visualizer).paint(GREY, sample)
    assert np.abs(picture[0, 0].astype(int) - picture[0, -1]).max() > 20
    names = list(class_colours([sample.pred_sem_seg.data[0].numpy()], visualizer.dataset_meta))
    assert names == (['class 0', 'class 1'] if not meta else ['ground', 'car'])


def test_colours_of_the_classes_that_are_there() -> None:
    maps = [np.array([[1, 1, 1, 0]]), np.array([[255, 0, 0, 0, 7]])]
    assert class_colours(maps, META) == {'ground': (10, 20, 30), 'car': (250, 0, 0)}
    assert list(class_colours(maps, META, at_most=1)) == ['ground']
    assert class_colours([], META) == class_colours(maps, dict(palette='random')) == class_colours(maps, {}) == {}


def test_predictions_of_another_package() -> None:
    with pytest.raises(ValueError, match='the model gives PixelData of mmengine'):
        stock_visualizer(PixelData(), META)


def test_a_box_that_reaches_over_the_edge_leaves_the_image_as_large() -> None:
    sample = mono3d()
    sample.pred_instances_3d.bboxes_3d.tensor[0, 0] = 5.5
    picture = painter_of(sample).paint(GREY, sample)
    assert changed(picture)[:, 75:].any() and not changed(picture)[:, :60].any()
