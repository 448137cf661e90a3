"""Token pruning of a plain ViT on CamVid: DynamicViT, SPViT's packages, and what each part is worth."""

from collections.abc import Mapping
from typing import Any

from ..plan import Claim, From, Row, Run, Suite, budget_name
from .parts import SPARSITY, START, measured

__all__ = ['CAMVID_VIT']

STEM = 'segmenter_pruned-dinov2-s14_fcn_300i_camvid-252x336'
DENSE = f'dynamicvit/{STEM}.py'
PREDICTOR = f'dynamicvit/{STEM}_sparse-rho70.py'
ADAPT, SEARCH = f'dynamicvit/{STEM}_sparse-adapt.py', f'dynamicvit/{STEM}_sparse-search.py'
PACKAGE = f'spvit/{STEM}_sparse-package.py'
SHAPE = (252, 336)
BUDGET, MILD = 0.6, 0.8  # the latter for two rows that tell how the loss grows
LONGER, TWICE = 'dense, trained as long', 'twice as long'
ITERS = 150  # of all that starts from dense weights, in all of its steps together
LONG = 2 * ITERS  # of two rows that tell what so short a training costs
# Over so many iterations the config's rate of the selectors is too high; chosen on validation pictures.
SLOWER = {'optim_wrapper.paramwise_cfg.custom_keys': {'selectors.': dict(lr_mult=0.1)}}
TESTED = {'shape': SHAPE, 'splits': ('test',)}
# What is written more often than by the configs, so that an interrupted run loses less.
SAVED = {'default_hooks.checkpoint.interval': 25, 'default_hooks.checkpoint.max_keep_ckpts': 2}
LOG = dict(type='sparsevit_mm.SparsityLogHook', shape=SHAPE, interval=10)
RATIO = dict(type='sparsevit_mm.KeepRatioLossHook', weight=10.0)
TEACHER = dict(type='sparsevit_mm.DistillationHook', teacher='self', kept_only=True)
# A selector that does not learn, under the same teacher.
CHANCE: dict[str, Any] = {
    'model.backbone.selector': {'_delete_': True, 'type': 'sparsevit_mm.RandomSelector'},
    'custom_hooks': [TEACHER, LOG],
}


def _by_iterations(iters: int, warmup: int = 10) -> dict[str, Any]:
    return {
        'train_cfg.max_iters': iters,
        'train_cfg.val_interval': iters,
        'param_scheduler': [
            dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=warmup),
            dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup, end=iters),
        ],
    }


def _calibrated(name: str, config: str, budget: float = BUDGET) -> Run:
    options = {'shape': SHAPE, 'budgets': (budget,), 'fit': True, 'rounds': 5, 'check': 10}
    return Run(name, 'calibrate', config, options=options, seeded=False)


def _trained(
    name: str, label: str, config: str, table: str, more: Mapping[str, Any] = {}, budget: float = BUDGET
) -> Run:
    """From the dense weights at the sparsity that a table allows."""
    overrides = {
        **SAVED,
        **_by_iterations(ITERS),
        START: From('dense', 'checkpoint'),
        SPARSITY: From(table, 'fit', budget_name(budget), 'sparsity'),
        **more,
    }
    return Run(name, 'train', config, overrides, options=TESTED, row=Row(label, budget))


def _searched() -> tuple[Run, ...]:
    """Adaptation, search and training at what was found, in as many iterations as the others have at once."""
    half = {**SAVED, **_by_iterations(ITERS // 2)}
    table = From('calibrate', 'table')
    searching = {'budget': BUDGET, 'checkpoint': From('adapt', 'checkpoint'), 'table': table}
    found = {**half, START: From('adapt', 'checkpoint'), SPARSITY: From('search', 'sparsity')}
    row = Row('predictor, adapted and searched', BUDGET)
    return (
        Run('adapt', 'train', ADAPT, {**half, START: From('dense', 'checkpoint')}, options=TESTED),
        Run('search', 'search', SEARCH, options={**searching, 'trials': 20, 'search_images': 60}),
        Run('found', 'train', PREDICTOR, found, options=TESTED, row=row),
    )


def _runs() -> tuple[Run, ...]:
    longer = {**SAVED, **_by_iterations(ITERS), START: From('dense', 'checkpoint')}
    longest = {**longer, **_by_iterations(LONG)}
    dropped = {'model.backbone.bypass': 'reuse'}
    slower = {**_by_iterations(LONG), **SLOWER}
    return (
        _calibrated('calibrate', PREDICTOR),
        _calibrated('calibrate-package', PACKAGE),
        # A table of its own: with one more budget for the first, what was trained by that would have to be made again.
        _calibrated('calibrate-mild', PREDICTOR, MILD),
        Run('dense', 'train', DENSE, SAVED, options=TESTED, row=Row('dense')),
        Run('longer', 'train', DENSE, longer, options=TESTED, row=Row(LONGER)),
        _trained('predictor', 'predictor (DynamicViT)', PREDICTOR, 'calibrate'),
        _trained('package', 'package (SPViT)', PACKAGE, 'calibrate-package'),
        _trained('dropped', 'SPViT without packages', PACKAGE, 'calibrate-package', dropped),
        _trained('random', 'random tokens', PREDICTOR, 'calibrate', CHANCE),
        *_searched(),
        _trained('untaught', 'predictor, no distillation', PREDICTOR, 'calibrate', {'custom_hooks': [RATIO, LOG]}),
        _trained('predictor-mild', 'predictor (DynamicViT)', PREDICTOR, 'calibrate-mild', budget=MILD),
        _trained('random-mild', 'random tokens', PREDICTOR, 'calibrate-mild', CHANCE, budget=MILD),
        _trained('predictor-long', f'predictor, {TWICE}', PREDICTOR, 'calibrate', slower),
        Run('longer-long', 'train', DENSE, longest, options=TESTED, row=Row(f'dense, {TWICE}')),
        measured(DENSE, rounds=15),
    )


def _worth(part: str, text: str, against: str, of: str = 'predictor (DynamicViT)') -> Claim:
    """That a part is worth something at the lower budget."""
    return Claim(text, of, against, BUDGET, part=part)


CAMVID_VIT = Suite(
    name='camvid-vit',
    title='Token pruning of a plain ViT on CamVid',
    about=f"""Semantic segmentation of CamVid by a ViT-S/14 with a linear head, from the weights in
`data/dinov2_vits14`, at 252x336; 300 iterations dense, then {ITERS} more of batch 4 for every row
([configs](../configs/dynamicvit/README.md), [SPViT's](../configs/spvit/README.md)). Sparsities are shared out among the
three sites by a table of latencies so that the backbone takes {BUDGET:.0%} of dense, for selectors and packages of
their own table; only *adapted and searched* has searched them, after half of the iterations. All learn from the dense
model but for *no distillation*. *SPViT without packages* has the same selectors, whose dropped tokens stay as they
are, at the same sparsity. The rows of {MILD:.0%} and those that are trained for {LONG} iterations, *twice as long*,
were added when the others were known, to tell what so low a budget and so short a training cost; the selectors' rate
of the latter is a twentieth, as the validation split chose ([why](dynamicvit.md#where-a-plain-vit-loses)). The test
split is scored once a model.""",
    runs=_runs(),
    metric='mIoU',
    metric_title='mIoU',
    compared=('predictor (DynamicViT)', 'package (SPViT)', 'predictor, adapted and searched'),
    data=('data/camvid/images/train', 'data/camvid/images/test', 'data/dinov2_vits14'),
    claims=(
        _worth('selection rather than chance', 'learned selection beats chance', 'random tokens'),
        _worth('distillation', 'distillation helps', 'predictor, no distillation'),
        _worth('packages', 'packages help', 'SPViT without packages', of='package (SPViT)'),
        Claim('heads score better than one predictor', 'SPViT without packages', 'predictor (DynamicViT)', BUDGET),
        _worth(
            'adaptation and search',
            'adaptation and search help',
            'predictor (DynamicViT)',
            of='predictor, adapted and searched',
        ),
        Claim('learned selection beats chance', 'predictor (DynamicViT)', 'random tokens', MILD),
        Claim('at most 1.5 below dense', 'predictor (DynamicViT)', LONGER, MILD, -1.5),
        Claim('at most 1.5 below dense', 'predictor (DynamicViT)', LONGER, BUDGET, -1.5),
        Claim('at most 1.5 below dense, twice as long', f'predictor, {TWICE}', f'dense, {TWICE}', BUDGET, -1.5),
        Claim('longer training helps', f'predictor, {TWICE}', 'predictor (DynamicViT)', BUDGET),
    ),
    left_out=(
        'class attention, and packages that are unfolded: what they are worth on these pictures is in '
        '[dynamicvit.md](dynamicvit.md#what-a-selector-is-worth) and [spvit.md](spvit.md#results).',
    ),
)
