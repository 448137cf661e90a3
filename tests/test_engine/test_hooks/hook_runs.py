"""Short trainings of tiny real segmentors and detectors, for the tests of hooks."""

import uuid
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from sparsevit_mm.apis import _build, init_scope
from sparsevit_mm.compat import allow_mmengine_checkpoints

# Without stochastic depth: a path that no image of a batch takes gives its parameters no gradient.
SWIN = dict(
    embed_dims=16, depths=(2, 2), num_heads=(2, 4), strides=(4, 2), out_indices=(0, 1), window_size=4,
    drop_path_rate=0.0,
)  # fmt: skip
SITES = ('stage1.pair1', 'stage2.pair1')
LEARNED = dict(type='sparsevit_mm.PredictorSelector')


def segmentor_cfg(
    sparsity: float | tuple[float, ...] = 0.5, selector: dict = LEARNED, classes: int = 3, **swin
) -> dict:
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor', mean=[127.0] * 3, std=[60.0] * 3, pad_val=0, seg_pad_val=255, size=(64, 64)
        ),
        backbone=dict(SWIN, type='sparsevit_mm.SparseSwin', sparsity=sparsity, selector=selector) | swin,
        decode_head=dict(
            type='FCNHead', in_channels=32, in_index=1, channels=8, num_convs=1, concat_input=False,
            num_classes=classes, norm_cfg=dict(type='BN'), loss_decode=dict(type='CrossEntropyLoss'),
        ),
        test_cfg=dict(mode='whole'),
    )  # fmt: skip


FREE = dict(type='sparsevit_mm.MultiHeadSelector', draw='gumbel')
# Of each family a tiny backbone, sparse values for its sites, and the channels of its one map. The first word of a name
# is the class.
FAMILIES = {
    'SparseSwin': (SWIN | dict(out_indices=(1,), selector=LEARNED), 0.5, 32),
    'SparseSwin with packages': (SWIN | dict(out_indices=(1,), selector=LEARNED, bypass='package'), 0.5, 32),
    'PrunedPiT': (
        dict(
            arch=dict(head_dims=(8, 8), num_heads=(2, 4), depths=(2, 3), patch_size=8, stride=8), img_size=64,
            out_indices=(1,),
        ),
        0.5,
        32,
    ),
    'PrunedViT with counts of images': (
        dict(
            img_size=64, patch_size=8, embed_dims=32, num_layers=4, num_heads=4, out_indices=(3,), final_norm=True,
            site_blocks=(1, 2), bypass='package', counts='adaptive', selector=dict(FREE, draw='batch'),
        ),
        (0.3, 0.51),
        32,
    ),
    'DynamicSwin': (
        dict(
            embed_dims=8, depths=(1, 1, 6, 1), num_heads=(1, 1, 2, 2), window_size=4, out_indices=(3,),
            drop_path_rate=0.0,
        ),
        (0.3, 0.5, 0.7),
        64,
    ),
    'DynamicConvNeXt': (
        dict(arch=dict(depths=(1, 1, 6, 1), channels=(8, 12, 16, 20)), layer_scale_init_value=1.0, out_indices=(3,)),
        (0.3, 0.5, 0.7),
        20,
    ),
    'PrunedViT': (
        dict(
            img_size=64, patch_size=8, embed_dims=32, num_layers=4, num_heads=4, out_indices=(3,), final_norm=True,
            site_blocks=(1, 2, 3),
        ),
        (0.3, 0.51, 0.657),
        32,
    ),
}  # fmt: skip


def family_cfg(name: str, sparse: bool) -> dict:
    """A segmentor with a backbone of a family that uses all of its parameters."""
    backbone, sparsity, channels = FAMILIES[name]
    cfg = segmentor_cfg()
    cfg['backbone'] = dict(backbone, type=f'sparsevit_mm.{name.split()[0]}', sparsity=sparsity if sparse else 0.0)
    cfg['decode_head'].update(in_channels=channels, in_index=0)
    return cfg


def detector_cfg(sparsity: float = 0.5, selector: dict = LEARNED, **swin) -> dict:
    return dict(
        type='RetinaNet',
        data_preprocessor=dict(type='DetDataPreprocessor', mean=[127.0] * 3, std=[60.0] * 3, pad_size_divisor=32),
        backbone=dict(SWIN, type='sparsevit_mm.SparseSwin', sparsity=sparsity, selector=selector) | swin,
        neck=dict(type='FPN', in_channels=[16, 32], out_channels=8, num_outs=2),
        bbox_head=dict(
            type='RetinaHead', num_classes=2, in_channels=8, stacked_convs=1, feat_channels=8,
            anchor_generator=dict(
                type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0], strides=[4, 8]
            ),
        ),
        train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0),
            allowed_border=-1, pos_weight=-1,
        ),
        test_cfg=dict(nms_pre=10, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=5),
    )  # fmt: skip


def build(cfg: dict, scope: str = 'mmseg', seed: int = 0) -> nn.Module:
    """A model whose norms are not all alike, so that windows differ."""
    torch.manual_seed(seed)
    config = Config(dict(model=cfg, default_scope=scope))
    init_scope(config)
    model = _build(config.model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'norm' in name and name.endswith('weight'):
                nn.init.uniform_(parameter, 0.5, 1.5)
            elif 'selector' in name and name.endswith('weight') and parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.5)
    model._is_init = True  # or a runner starts with weights of its own
    return model


class Segments(Dataset):
    """Images of noise whose label is a half of the image."""

    metainfo = dict(classes=('ground', 'left', 'right'), palette=[[0, 0, 0], [255, 0, 0], [0, 255, 0]])

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 90, (3, 64, 64), generator=generator, dtype=torch.uint8)
        label = torch.ones(1, 64, 64, dtype=torch.long)
        label[..., 16 * (index % 3) :] = 2
        image[index % 3] += (40 * label[0]).byte()
        shapes = dict(img_shape=(64, 64), ori_shape=(64, 64))
        return dict(inputs=image, data_samples=SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=shapes))


def batch(start: int = 0) -> dict:
    """Two images as a loader gives them."""
    return pseudo_collate([Segments()[start], Segments()[start + 1]])


class Boxes(Dataset):
    metainfo = dict(classes=('one', 'two'))

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        from mmdet.structures import DetDataSample
        from mmengine.structures import InstanceData

        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 255, (3, 64, 64), generator=generator, dtype=torch.uint8)
        objects = InstanceData(bboxes=torch.tensor([[8.0, 8, 40, 40]]), labels=torch.tensor([index % 2]))
        sample = DetDataSample(gt_instances=objects)
        sample.set_metainfo(dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0), img_id=index))
        return dict(inputs=image, data_samples=sample)


class Nothing(BaseMetric):
    def process(self, data_batch: dict, data_samples: list) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict:
        return {'nothing': 0.0}


def run(
    work_dir: Path, model: nn.Module, hooks: list, iters: int = 2, scope: str = 'mmseg', train: bool = True, **options
) -> Runner:
    """Train a model on generated images; losses of its iterations are on ``runner.losses``."""
    allow_mmengine_checkpoints()
    losses: list[dict] = []
    loader = dict(batch_size=2, num_workers=0, dataset=Segments() if scope == 'mmseg' else Boxes())
    settings = dict(
        train_cfg=dict(by_epoch=False, max_iters=iters, val_interval=1000),
        train_dataloader=dict(sampler=dict(type='InfiniteSampler', shuffle=False), **loader),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1000, by_epoch=False, save_last=False)),
        log_level='ERROR',
        val_dataloader=dict(sampler=dict(type='DefaultSampler', shuffle=False), **loader),
        val_cfg=dict(),
        val_evaluator=Evaluator(Nothing(prefix='toy')),
    )
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        custom_hooks=[*hooks, KeepLosses(losses)],
        default_scope=scope,
        experiment_name=uuid.uuid4().hex,
        **{**settings, **options},
    )
    runner.losses = losses
    if train:
        runner.train()
    return runner


def hook_of(runner: Runner, kind: type):
    return next(hook for hook in runner.hooks if isinstance(hook, kind))


class KeepLosses(Hook):
    """Notes what each training step returns."""

    def __init__(self, losses: list[dict]) -> None:
        self.losses = losses

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        self.losses.append({name: value.item() for name, value in outputs.items()})


def current_scope() -> str | None:
    scope = DefaultScope.get_current_instance()
    return scope and scope.scope_name
