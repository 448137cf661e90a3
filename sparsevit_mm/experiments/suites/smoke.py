"""Every kind of run in two or three minutes, to see that all of it works. Its accuracies mean nothing."""

from ..plan import Claim, From, Row, Run, Suite
from .camvid_swin import SHAPE, STEM
from .parts import SwinPath, by_epochs, measured, size_candidate, uniform_controls

__all__ = ['SMOKE']

BUDGET = 0.9
PICTURES = 8
TINY = {
    'model.backbone.embed_dims': 16,
    'model.backbone.depths': (2, 2, 2, 2),
    'model.neck.in_channels': [16, 32, 64, 128],
    'train_dataloader.batch_size': 4,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'default_hooks.checkpoint.interval': 1,
    **{
        f'{split}_dataloader.{key}': value
        for split in ('val', 'test')
        for key, value in {'num_workers': 0, 'persistent_workers': False}.items()
    },
    **{f'{split}_dataloader.dataset.indices': PICTURES for split in ('train', 'val', 'test')},
}
PATH = SwinPath(
    dense=f'{STEM}.py',
    adapt=f'{STEM}_sparse-adapt.py',
    search=f'{STEM}_sparse-search.py',
    tune=f'{STEM}_sparse-example.py',
    shape=SHAPE,
    common={**TINY, **by_epochs(3, lr=0.001)},
    searching={'trials': 4, 'search_images': 4},
    longer=by_epochs(2),
)
SIZES = [
    size_candidate((height, height * 4 // 3), (height * 4 // 3, height), {'val': 1, 'test': 1})
    for height in (228, 276, 324)
]


def _runs() -> tuple[Run, ...]:
    controls = {'uniform': uniform_controls(0.2, 0.8), 'size': SIZES}
    few = {'rounds': 2, 'control_rounds': 2, 'check': 2, 'min_round_time': 0.0}
    quick = {**few, 'choices': (0.0, 0.4, 0.8), 'furthest': 1.0}
    dense, adapt, _ = PATH.trained()
    search, found, untuned = PATH.found(BUDGET)
    size = {**PATH.common, 'load_from': From('dense', 'checkpoint')}
    chosen = From('calibrate', 'size', f'{BUDGET:g}')
    return (
        PATH.calibrated((BUDGET,), controls, **quick),
        dense,
        adapt,
        search,
        found,
        untuned,
        Run(
            'size',
            'evaluate',
            PATH.dense,
            size,
            adopt=chosen,
            options={
                'shape': From(chosen.run, *chosen.path, 'shape'),
                'checkpoint': From('dense', 'checkpoint'),
                'splits': ('test',),
            },
            row=Row('smaller input', BUDGET),
        ),
        measured(PATH.dense, rounds=2, min_round_time=0.0),
    )


SMOKE = Suite(
    name='smoke',
    title='A smoke run',
    about='A few steps of a tiny model on a few pictures of CamVid: its accuracies mean nothing.',
    runs=_runs(),
    metric='mIoU',
    metric_title='mIoU',
    seeds=(0,),
    data=('data/camvid/images/train', 'data/camvid/images/test'),
    claims=(Claim('better than a smaller input', 'SparseViT', 'smaller input', BUDGET),),
)
