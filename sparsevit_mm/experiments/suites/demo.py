"""Instance segmentation of the embedded demo set, tested on pictures that were held out."""

from typing import Any

from ..plan import Claim, Run, Suite
from .parts import SwinPath, by_epochs, measured, uniform_controls

__all__ = ['DEMO']

STEM = 'demo/mask-rcnn_swin-mini-p4-w7_fpn_12e_demo-448x448'
SHAPE = (448, 448)
DENSE, SHORT = 12, 4
BUDGETS = (0.6,)
TRIALS, IMAGES = 30, 60  # of a search
SAVED = {'default_hooks.checkpoint.interval': 1, 'default_hooks.checkpoint.max_keep_ckpts': 2}


def _sizes() -> list[dict[str, Any]]:
    return [
        {
            'label': f'{side}x{side}',
            'shape': (side, side),
            'overrides': {
                'train_dataloader.dataset.pipeline': [
                    dict(type='LoadImageFromFile'),
                    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
                    dict(type='Resize', scale=(side, side)),
                    dict(type='PackDetInputs'),
                ],
                'test_dataloader.dataset.pipeline.1.scale': (side, side),
            },
        }
        for side in range(224, 448, 14)
    ]


PATH = SwinPath(
    dense=f'{STEM}.py',
    adapt=f'{STEM}_sparse-adapt.py',
    search=f'{STEM}_sparse-search.py',
    tune=f'{STEM}_sparse-example.py',
    shape=SHAPE,
    common=SAVED,
    test={'splits': ('test',)},
    searching={'trials': TRIALS, 'search_images': IMAGES},
    longer=by_epochs(2 * SHORT, lr=0.0001),
)


def _runs() -> tuple[Run, ...]:
    runs = [PATH.calibrated(BUDGETS, {'uniform': uniform_controls(), 'size': _sizes()}), *PATH.trained()]
    for budget in BUDGETS:
        runs += [*PATH.found(budget), PATH.uniform(budget), PATH.random(budget)]
        runs.append(PATH.control(budget, 'size', 'smaller input', from_dense=True))
    return (*runs, measured(PATH.dense, rounds=15))


DEMO = Suite(
    name='demo',
    title='Instance segmentation of the demo set',
    about=f"""Mask R-CNN with a small Swin (2-2-2-2 blocks, 32 channels) on the [demo set](../configs/demo/README.md):
240 generated pictures of 448x448 to train on, and 60 of other photographs and digits to test on. {DENSE} epochs dense,
{SHORT} of adaptation, {SHORT} of fine-tuning, batch 4, bfloat16 where the processor has it. Rows are named
as in [window pruning](#window-pruning-on-camvid); searches tried {TRIALS} candidates on {IMAGES} training pictures.
Two measurements of the latencies differed by up to 0.26 in whole models and 0.06 in backbones; the table has the later
one.""",
    runs=_runs(),
    metric='coco/segm_mAP',
    metric_title='mask AP',
    scale=100.0,
    seeds=(0, 1),
    claims=(
        Claim('at most 1 below dense trained as long', 'SparseViT', 'dense, trained as long', BUDGETS[0], -1.0),
        *(
            Claim(f'better than {label}', 'SparseViT', label, BUDGETS[0])
            for label in ('uniform sparsity', 'random windows', 'smaller input', 'SparseViT, not fine-tuned')
        ),
    ),
)
