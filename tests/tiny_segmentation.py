"""A segmentation project that runs in seconds: generated images, a stock config with a small Swin, a checkpoint."""

from pathlib import Path

import cv2
import numpy as np

CLASSES = ('ground', 'square', 'disc')
CONFIG = """
default_scope = 'mmseg'
data_root = {root!r}
metainfo = dict(classes={classes!r}, palette=[[0, 0, 0], [255, 0, 0], [0, 255, 0]])
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]


def loader(split, shuffle):
    return dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=shuffle),
        dataset=dict(
            type='BaseSegDataset',
            data_root=data_root,
            data_prefix=dict(img_path=split + '/images', seg_map_path=split + '/labels'),
            img_suffix='.png',
            metainfo=metainfo,
            pipeline=pipeline,
        ),
    )


train_dataloader = loader('train', True)
val_dataloader = loader('val', False)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4))
default_hooks = dict(logger=dict(type='LoggerHook', interval=100))
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[127.0] * 3, std=[60.0] * 3, pad_val=0, seg_pad_val=255, size=(64, 64)
    ),
    backbone=dict(
        type='SwinTransformer',
        embed_dims=16,
        depths=(2, 2),
        num_heads=(2, 4),
        strides=(4, 2),
        out_indices=(0, 1),
        window_size=4,
        init_cfg=dict(type='Pretrained', checkpoint='https://example.invalid/swin.pth'),
    ),
    decode_head=dict(
        type='FCNHead',
        in_channels=32,
        in_index=1,
        channels=8,
        num_convs=1,
        concat_input=False,
        num_classes=3,
        norm_cfg=dict(type='BN'),
        loss_decode=dict(type='CrossEntropyLoss'),
    ),
    test_cfg=dict(mode='whole'),
)
"""


def make_images(root: Path, train: int = 8, val: int = 4, size: int = 64) -> None:
    """Squares and discs on a noisy ground, with label maps."""
    rng = np.random.default_rng(0)
    for split, number in (('train', train), ('val', val)):
        for part in ('images', 'labels'):
            (root / split / part).mkdir(parents=True, exist_ok=True)
        for i in range(number):
            image = rng.integers(0, 90, (size, size, 3), dtype=np.uint8)
            label = np.zeros((size, size), np.uint8)
            for kind in (1, 2):
                x, y = (int(v) for v in rng.integers(8, size - 8, 2))
                colour = (250, 60, 60) if kind == 1 else (60, 250, 60)
                for canvas, value in ((image, colour), (label, kind)):
                    if kind == 1:
                        cv2.rectangle(canvas, (x - 7, y - 7), (x + 7, y + 7), value, -1)
                    else:
                        cv2.circle(canvas, (x, y), 7, value, -1)
            cv2.imwrite(str(root / split / 'images' / f'{i}.png'), image)
            cv2.imwrite(str(root / split / 'labels' / f'{i}.png'), label)


def make_project(folder: Path, **images: int) -> tuple[Path, Path]:
    """Images, ``stock.py`` with a dense Swin, and ``dense.pth`` in a folder; the paths of the last two."""
    import torch

    from sparsevit_mm.apis import build_model, load_config

    make_images(folder / 'data', **images)
    config, checkpoint = folder / 'stock.py', folder / 'dense.pth'
    config.write_text(CONFIG.format(root=str(folder / 'data'), classes=CLASSES))
    torch.manual_seed(0)
    model = build_model(load_config(config))
    for name, parameter in model.named_parameters():
        if 'norm' in name and name.endswith('weight'):  # fresh norms give every token the same score
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, checkpoint)
    return config, checkpoint
