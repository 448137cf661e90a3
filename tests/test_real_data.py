"""Stock configs with `SparseSwin` swapped in by one override: training steps and predictions on real images."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmcv.ops')

from mmengine.config import Config
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import Runner
from scripts import load_tool
from torch import nn

from sparsevit_mm.apis import drop_pretrained, load_config
from sparsevit_mm.models import find_sparse_backbone
from sparsevit_mm.sparsity import keep_count

SPARSITY = (0.6, 0.0, 0.2, 0.4, 0.5, 0.0)  # SparseViT's released setting 2
ITERATIONS = 3

OVERRIDE = """
_base_ = '{base}'
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)
model = dict(backbone=dict(type='sparsevit_mm.SparseSwin', sparsity=(.6, 0, .2, .4, .5, 0)))
"""

# mmdet3d's monocular configs are made for a caffe ResNet.
OVERRIDE_MONO3D = """
_base_ = '{base}'
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(_delete_=True, type='sparsevit_mm.SparseSwin', sparsity=(.6, 0, .2, .4, .5, 0)),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0001, weight_decay=0.05),
    clip_grad=dict(max_norm=35, norm_type=2),
)
"""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """The models are so small here that more threads gain little, and on a busy machine they wait for each other."""
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def swapped(tmp_path: Path, base: str, text: str = OVERRIDE) -> Config:
    """A stock config with the override, as a user would write it into a file, and nothing to download."""
    path = tmp_path / 'swapped.py'
    path.write_text(text.format(base=base))
    cfg = load_config(path)
    drop_pretrained(cfg)
    return cfg


def shrink(cfg: Config, tmp_path: Path, options: Mapping[str, object]) -> None:
    """Three training steps of one or two images, a test on two, in this process."""
    loaders = {f'{name}_dataloader.{key}': value for name in ('train', 'test') for key, value in LOADER.items()}
    steps = {'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=ITERATIONS)}
    rest = dict(param_scheduler=[], work_dir=str(tmp_path), default_hooks=dict(checkpoint=None))
    no_validation = dict(val_cfg=None, val_dataloader=None, val_evaluator=None)
    cfg.merge_from_dict(loaders | steps | rest | no_validation | dict(options))
    cfg.randomness = dict(seed=0)


LOADER = dict(num_workers=0, persistent_workers=False)


def resize(pipeline: list[dict], scale: tuple[int, int], kind: str = 'Resize') -> list[dict]:
    """The pipeline with another image size."""
    return [
        dict(type=kind, scale=scale, keep_ratio=True)
        if step['type'].split('.')[-1] in ('Resize', 'RandomResize')
        else step
        for step in pipeline
    ]


def train(cfg: Config) -> Runner:
    """Runs the training steps and asserts that they were real."""
    runner = Runner.from_cfg(cfg)
    before = {name: parameter.detach().clone() for name, parameter in runner.model.named_parameters()}
    runner.train()
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert len(losses) == ITERATIONS
    assert np.isfinite(losses).all() and min(losses) > 0
    moved = {
        name
        for name, parameter in runner.model.named_parameters()
        if parameter.requires_grad and not torch.equal(parameter, before[name])
    }
    assert len(moved) > 0.9 * sum(parameter.requires_grad for parameter in runner.model.parameters())
    # The query, key and value weights of a pair that computes 40% of its windows.
    assert {f'backbone.stages.0.blocks.{block}.attn.w_msa.qkv.weight' for block in (0, 1)} <= moved
    assert all(torch.isfinite(parameter).all() for parameter in runner.model.parameters())
    return runner


def ready(runner: Runner, cfg: Config) -> nn.Module:
    """The trained model as the packages' inference functions take it."""
    model = runner.model.eval()
    model.cfg = cfg
    model.dataset_meta = runner.test_dataloader.dataset.metainfo
    return model


def assert_sparse(records: list) -> None:
    """Every site computed just the windows that its sparsity leaves."""
    assert {record.site for record in records} == set(SITES)
    for record in records:
        assert record.kept.shape[1] == keep_count(record.num_units, SITES[record.site])


SITES = dict(
    zip(('stage1.pair1', 'stage2.pair1', 'stage3.pair1', 'stage3.pair2', 'stage3.pair3', 'stage4.pair1'), SPARSITY)
)


@pytest.mark.data
@pytest.mark.slow
def test_mask_rcnn_on_coco(data_root, tmp_path):
    apis = pytest.importorskip('mmdet.apis')
    cfg = swapped(tmp_path, 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py')
    root = f'{data_root}/coco_mini/'
    options = {
        'test_evaluator.ann_file': root + 'annotations/instances_val2017.json',
        'train_dataloader.batch_size': 1,
        'model.train_cfg.rpn_proposal.max_per_img': 100,
        'model.train_cfg.rcnn.sampler.num': 32,
        'model.test_cfg.rpn.max_per_img': 50,
        'model.test_cfg.rcnn.score_thr': 0.0,  # three steps make no confident detector
        'model.test_cfg.rcnn.max_per_img': 10,
    }
    for name in ('train', 'test'):
        pipeline = resize(cfg[f'{name}_dataloader'].dataset.pipeline, (256, 192))
        options[f'{name}_dataloader.dataset'] = dict(
            data_root=root, indices=ITERATIONS if name == 'train' else 2, pipeline=pipeline
        )
    shrink(cfg, tmp_path, options)
    runner = train(cfg)
    results = runner.test()
    assert 0 <= results['coco/bbox_mAP'] <= 1 and 0 <= results['coco/segm_mAP'] <= 1

    model = ready(runner, cfg)
    image = sorted((data_root / 'coco_mini/val2017').glob('*.jpg'))[0]
    with find_sparse_backbone(model).record_selections() as records:
        sample = apis.inference_detector(model, str(image))
    assert_sparse(records)
    found = sample.pred_instances
    assert found.bboxes.shape == (len(found.scores), 4)
    assert found.masks.shape == (len(found.scores), *sample.ori_shape)
    assert set(found.labels.tolist()) <= set(range(80))


@pytest.mark.data
@pytest.mark.slow
def test_upernet_on_camvid(data_root, tmp_path):
    apis = pytest.importorskip('mmseg.apis')
    cfg = swapped(tmp_path, 'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py')
    head = dict(num_classes=11, channels=64, norm_cfg=dict(type='BN'))  # SyncBN trains on GPUs alone
    options = {'model.decode_head': head, 'model.auxiliary_head': head, 'model.data_preprocessor.size': (96, 128)}
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    small = dict(type='Resize', scale=(128, 96))
    for name, split in (('train', 'train'), ('test', 'test')):
        options[f'{name}_dataloader.dataset'] = dict(
            _delete_=True,
            type='BaseSegDataset',
            data_root=f'{data_root}/camvid',
            data_prefix=dict(img_path=f'images/{split}', seg_map_path=f'labels/{split}'),
            metainfo=dict(classes=CAMVID, palette=[[index] * 3 for index in range(11)]),
            indices=6 if name == 'train' else 2,
            pipeline=[*load, small, dict(type='PackSegInputs')]
            if name == 'train'
            else [load[0], small, load[1], dict(type='PackSegInputs')],
        )
    shrink(cfg, tmp_path, options)
    runner = train(cfg)
    results = runner.test()
    assert 0 <= results['mIoU'] <= 100 and results['aAcc'] > 0

    model = ready(runner, cfg)
    image = sorted((data_root / 'camvid/images/test').glob('*.jpg'))[0]
    with find_sparse_backbone(model).record_selections() as records:
        sample = apis.inference_model(model, str(image))
    assert_sparse(records)
    classes = sample.pred_sem_seg.data
    assert classes.shape == (1, 360, 480)
    assert classes.min() >= 0 and classes.max() < 11


CAMVID = ('sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car', 'pedestrian', 'bicyclist')


@pytest.mark.data
@pytest.mark.slow
def test_pgd_on_kitti(data_root, tmp_path):
    apis = pytest.importorskip('mmdet3d.apis')
    cfg = swapped(tmp_path, 'mmdet3d::pgd/pgd_r101-caffe_fpn_head-gn_4xb3-4x_kitti-mono3d.py', OVERRIDE_MONO3D)
    root = f'{data_root}/kitti_mini/'
    ann_file = root + 'kitti_infos_val_mono3d.json'
    # Resize3D scales the camera matrix with the image, and Resize does not.
    options = {
        'test_evaluator': dict(type='sparsevit_mm.KittiMonoMetric', ann_file=ann_file),
        'train_dataloader.batch_size': 1,
        'model.test_cfg.score_thr': 0.0,
    }
    for name, split in (('train', 'train'), ('test', 'val')):
        options[f'{name}_dataloader.dataset'] = dict(
            data_root=root,
            ann_file=f'kitti_infos_{split}_mono3d.json',
            indices=[0, 8, 10] if name == 'train' else [2, 5],
            pipeline=resize(cfg[f'{name}_dataloader'].dataset.pipeline, (320, 96), 'Resize3D'),
        )
    shrink(cfg, tmp_path, options)
    runner = train(cfg)
    results = runner.test()
    assert 0 <= results['pred_instances_3d/KITTI/Overall_3D_AP40_moderate'] <= 100

    model = ready(runner, cfg)
    entry = json.loads(Path(ann_file).read_text())['data_list'][2]
    (tmp_path / 'infos.json').write_text(json.dumps(dict(data_list=[entry])))
    image = f'{root}training/image_2/{entry["images"]["CAM2"]["img_path"]}'
    with find_sparse_backbone(model).record_selections() as records:
        sample = apis.inference_mono_3d_detector(model, image, str(tmp_path / 'infos.json'), 'CAM2')
    assert_sparse(records)
    found = sample.pred_instances_3d
    assert 0 < len(found.bboxes_3d) <= 20
    assert found.bboxes_3d.tensor.shape == (len(found.scores_3d), 7)
    assert torch.isfinite(found.bboxes_3d.tensor).all() and (found.bboxes_3d.tensor[:, 2] > 0).all()
    assert set(found.labels_3d.tolist()) <= {0, 1, 2}


EPOCH = ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'train_dataloader.batch_size=1']
ITERS = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2']
SMALL_CROP = ['train_dataloader.dataset.pipeline.3.crop_size=(180,240)', 'model.data_preprocessor.size=(180,240)']


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    'name, options',
    [
        ('mask-rcnn_swin-t-p4-w7_fpn_24e_coco-mini_sparse-adapt', EPOCH),
        ('upernet_swin-t-p4-w7_4k_camvid-360x480_sparse-adapt', ITERS),
        ('pgd_swin-t-p4-w7_fpn_48e_kitti-mini-mono3d_sparse-adapt', EPOCH),
    ],
)
def test_adaptation_configs_of_the_small_sets_train_and_validate(data_root, tmp_path, monkeypatch, name, options):
    monkeypatch.chdir(data_root.parent)
    train_twice(f'configs/sparsevit/{name}.py', tmp_path, options)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    'name, options',
    [
        ('segmenter_pruned-dinov2-s14_fcn_300i_camvid-252x336_sparse-rho70', ITERS),
        ('mask-rcnn_dynamic-swin-t-p4-w7_fpn_24e_coco-mini_sparse-rho70', EPOCH),
        ('upernet_dynamic-convnext-t_4k_camvid-360x480_sparse-rho70', [*ITERS, *SMALL_CROP]),
    ],
)
def test_learned_selectors_train_on_the_small_sets(data_root, tmp_path, monkeypatch, name, options):
    monkeypatch.chdir(data_root.parent)
    for entry in train_twice(f'configs/dynamicvit/{name}.py', tmp_path, options):
        assert entry['loss_keep_ratio'] > 0
        # Stochastic depth, and the selection, set it apart from its teacher.
        assert entry['loss_distill_feature' if 'dynamic' in name else 'loss_distill_logits'] > 0


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    'name, options',
    [
        ('segmenter_pruned-dinov2-s14_fcn_300i_camvid-252x336_sparse-adaptive', ITERS),
        ('mask-rcnn_pruned-pit-s16_fpn_24e_coco-mini_sparse-package', EPOCH),
        ('upernet_swin-t-p4-w7_4k_camvid-360x480_sparse-package', [*ITERS, *SMALL_CROP]),
    ],
)
def test_package_tokens_train_on_the_small_sets(data_root, tmp_path, monkeypatch, name, options):
    monkeypatch.chdir(data_root.parent)
    for entry in train_twice(f'configs/spvit/{name}.py', tmp_path, options):
        assert entry['loss_keep_ratio'] > 0
        # Stochastic depth, and the selection, set it apart from its teacher.
        assert entry['loss_distill_logits' if 'coco' not in name else 'loss_distill_feature'] > 0


def train_twice(config: str, work_dir: Path, options: list[str]) -> list[dict]:
    """Two training steps and a validation of a config by the tool; what it logged of the steps."""
    options = [*options, 'load_from=None', 'default_hooks.checkpoint=None', 'default_hooks.logger.interval=1']
    options += [f'visualizer.name={work_dir.name}']  # one of a name serves all runners of a process
    for loader in ('train', 'val'):
        options += [f'{loader}_dataloader.num_workers=0', f'{loader}_dataloader.persistent_workers=False']
        options += [f'{loader}_dataloader.dataset.indices={2 if loader == "train" else 1}']
    load_tool('train').main([config, '--work-dir', str(work_dir), '--cfg-options', *options])
    log = next(work_dir.glob('*/vis_data/scalars.json')).read_text()
    entries = [json.loads(line) for line in log.splitlines()]
    steps = [entry for entry in entries if 'loss' in entry]
    assert len(steps) == 2 and np.isfinite([entry['loss'] for entry in steps]).all()
    # The validation. A detector that was hardly trained may find nothing, and COCO's metric then gives no numbers.
    assert re.search(r'(Epoch|Iter)\(val\) .*\[1/1\]', next(work_dir.glob('*/*.log')).read_text())
    return steps


MONO3D = {
    'FCOS3D': 'mmdet3d::fcos3d/fcos3d_r101-caffe-dcn_fpn_head-gn_8xb2-1x_nus-mono3d.py',
    'PGD': 'mmdet3d::pgd/pgd_r101-caffe_fpn_head-gn_4xb3-4x_kitti-mono3d.py',
}


@pytest.mark.parametrize('wrapper', ['OptimWrapper', 'sparsevit_mm.BFloat16OptimWrapper'])
@pytest.mark.parametrize('name', MONO3D)
def test_monocular_detectors_compute_losses_and_boxes_on_drawn_data(tmp_path, name, wrapper):
    pytest.importorskip('mmdet3d')
    from sparsevit_mm.apis import build_model

    model = build_model(swapped(tmp_path, MONO3D[name], OVERRIDE_MONO3D)).train()
    code_size = model.bbox_head.bbox_code_size  # FCOS3D's boxes have a velocity
    image = torch.randint(0, 256, (3, 96, 160), dtype=torch.uint8)
    batch = dict(inputs=dict(img=[image]), data_samples=[two_boxes(code_size)])
    data = model.data_preprocessor(batch, training=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with OPTIM_WRAPPERS.build(dict(type=wrapper, optimizer=optimizer)).optim_context(model):
        losses = model(**data, mode='loss')
    assert {'loss_cls', 'loss_offset', 'loss_depth', 'loss_size', 'loss_rotsin', 'loss_dir'} <= set(losses)
    total = sum(losses.values())
    assert torch.isfinite(total) and total > 0
    total.backward()
    assert model.backbone.stages[0].blocks[0].attn.w_msa.qkv.weight.grad.abs().sum() > 0

    with torch.no_grad(), model.backbone.record_selections() as records:
        found = model.eval()(**data, mode='predict')[0].pred_instances_3d
    assert_sparse(records)
    assert found.bboxes_3d.tensor.shape == (len(found.scores_3d), code_size)


def two_boxes(code_size: int):
    """A data sample of mmdet3d with a car 10 m and a pedestrian 20 m away."""
    from mmdet3d.structures import CameraInstance3DBoxes, Det3DDataSample
    from mmengine.structures import InstanceData

    camera = [[100.0, 0, 80, 0], [0, 100.0, 48, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    size = dict(img_shape=(96, 160), scale_factor=(1.0, 1.0))
    sample = Det3DDataSample(metainfo=dict(cam2img=camera, box_type_3d=CameraInstance3DBoxes, sample_idx=0, **size))
    boxes = torch.tensor([[0.0, 1, 10, 4, 1.5, 1.8, 0.3, 0, 0], [3, 1, 20, 1, 1.7, 0.6, 1, 0.5, 0]])
    sample.gt_instances_3d = InstanceData(
        bboxes_3d=CameraInstance3DBoxes(boxes[:, :code_size], box_dim=code_size),
        labels_3d=torch.tensor([0, 2]),
        centers_2d=torch.tensor([[80.0, 58], [95, 53]]),
        depths=torch.tensor([10.0, 20]),
        attr_labels=torch.tensor([0, 2]),
    )
    image_boxes = torch.tensor([[60.0, 43, 100, 58], [92, 44, 98, 53]])
    sample.gt_instances = InstanceData(bboxes=image_boxes, labels=torch.tensor([0, 2]))
    return sample
