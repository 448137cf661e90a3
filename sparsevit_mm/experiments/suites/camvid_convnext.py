"""Fast paths in a compact ConvNeXt on CamVid."""

from ..plan import Claim, From, Row, Run, Suite
from .parts import START, by_epochs, measured

__all__ = ['CAMVID_CONVNEXT']

STEM = 'camvid/fpn_dynamic-convnext-mini_20e_camvid-336x336'
TESTED = {'shape': (360, 480), 'splits': ('test',)}
TUNE = 8
FROM_DENSE = {START: From('dense', 'checkpoint')}
CHANCE = {
    'model.backbone.selector': {'_delete_': True, 'type': 'sparsevit_mm.RandomSelector'},
    'custom_hooks': [dict(type='sparsevit_mm.DistillationHook', teacher='self')],
}

CAMVID_CONVNEXT = Suite(
    name='camvid-convnext',
    title='Fast paths in a ConvNeXt on CamVid',
    about=f"""As [above](#window-pruning-on-camvid), with a ConvNeXt of 2-2-6-2 blocks and 32 channels: 20 epochs
dense, then {TUNE} more for every row. In *fast paths* 0.3, 0.5 and 0.7 of the positions of stage 3 go through a linear
layer instead of the MLP, as published, chosen by predictors with a keep-ratio loss and the dense model as their
teacher. So little of so small a model is left out that there is no budget to compare at; latencies are what they
are.""",
    runs=(
        Run('dense', 'train', f'{STEM}.py', options=TESTED, row=Row('dense')),
        Run(
            'longer',
            'train',
            f'{STEM}.py',
            {**by_epochs(TUNE, lr=0.0003), **FROM_DENSE},
            options=TESTED,
            row=Row('dense, trained as long'),
        ),
        Run(
            'paths',
            'train',
            f'{STEM}_sparse-rho70.py',
            FROM_DENSE,
            options=TESTED,
            row=Row('fast paths (DynamicConvNeXt)'),
        ),
        Run(
            'random',
            'train',
            f'{STEM}_sparse-rho70.py',
            {**FROM_DENSE, **CHANCE},
            options=TESTED,
            row=Row('fast paths at random'),
        ),
        measured(f'{STEM}.py', rounds=60),
    ),
    metric='mIoU',
    metric_title='mIoU',
    compared=('fast paths (DynamicConvNeXt)',),
    data=('data/camvid/images/train', 'data/camvid/images/test'),
    claims=(
        Claim('at most 0.5 below dense', 'fast paths (DynamicConvNeXt)', 'dense, trained as long', None, -0.5),
        Claim(
            'learned selection beats chance',
            'fast paths (DynamicConvNeXt)',
            'fast paths at random',
            part='selection rather than chance',
        ),
    ),
)
