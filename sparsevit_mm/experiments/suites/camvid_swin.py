"""SparseViT's path on CamVid with a compact Swin, and all controls at the same latencies."""

from ..plan import Claim, From, Row, Run, Suite, budget_name
from .parts import START, SwinPath, by_epochs, measured, uniform_controls, width_controls

__all__ = ['CAMVID_SWIN']

STEM = 'camvid/fpn_swin-micro-p4-w7_40e_camvid-240x320'
TOKENS = 'camvid/fpn_dynamic-swin-micro-p4-w7_40e_camvid-240x320_sparse-rho70.py'
SHAPE = (240, 320)
# The first one is what the paper's claims are checked at; the order is that in which runs are started.
BUDGETS = (0.65, 0.5, 0.8)
# Epochs of 46 iterations of 8 pictures: dense, adaptation, fine-tuning.
DENSE, ADAPT, TUNE = 40, 15, 15
TRIALS, SEARCHED = 24, 80
RATE = 0.0003  # of all that starts from trained weights
WARMUP = 100


def _sizes() -> list[dict]:
    """Smaller pictures of the same form."""
    return [
        {
            'label': f'{height}x{height * 4 // 3}',
            'shape': (height, height * 4 // 3),
            'overrides': {
                'model.data_preprocessor.size': (height, height * 4 // 3),
                'train_dataloader.dataset.pipeline.2.scale': (height * 4 // 3, height),
                'train_dataloader.dataset.pipeline.3.crop_size': (height, height * 4 // 3),
                'val_dataloader.dataset.pipeline.1.scale': (height * 4 // 3, height),
                'test_dataloader.dataset.pipeline.1.scale': (height * 4 // 3, height),
            },
        }
        for height in range(96, 240, 6)
    ]


PATH = SwinPath(
    dense=f'{STEM}.py',
    adapt=f'{STEM}_sparse-adapt.py',
    search=f'{STEM}_sparse-search.py',
    tune=f'{STEM}_sparse-example.py',
    shape=SHAPE,
    test={'splits': ('test',)},
    searching={'trials': TRIALS, 'search_images': SEARCHED},
    longer=by_epochs(ADAPT + TUNE, lr=RATE),
    anew=by_epochs(DENSE + ADAPT + TUNE, warmup=WARMUP),
)
CONTROLS = {'uniform': uniform_controls(), 'size': _sizes(), 'width': width_controls(range(8, 32, 2))}


def _tokens(budget: float) -> Run:
    """Tokens instead of windows: a sparsity by the table, for as long as adaptation and fine-tuning take together."""
    overrides = {
        **_TOKEN_SITES,
        START: From('dense', 'checkpoint'),
        'model.backbone.sparsity': From('calibrate-tokens', 'fit', budget_name(budget), 'sparsity'),
    }
    row = Row('tokens (DynamicSwin)', budget)
    return Run(f'tokens-{budget * 100:g}', 'train', TOKENS, overrides, options=PATH.tested, row=row)


# The published sites are all in stage 3; with some in every stage there is more to save.
_TOKEN_SITES = {
    'model.backbone.site_blocks': {0: (0,), 1: (0,), 2: (0, 2, 4), 3: (0,)},
    'model.backbone.sparsity': 0.0,
}


def _runs() -> tuple[Run, ...]:
    first, *others = BUDGETS
    runs = [PATH.calibrated(BUDGETS, CONTROLS, rounds=15, check=20), *PATH.trained()]
    for budget in BUDGETS:
        runs += [*PATH.found(budget), PATH.uniform(budget), PATH.random(budget)]
    runs += [PATH.control(b, 'size', 'smaller input', from_dense=True) for b in BUDGETS]
    runs += PATH.free(first)
    runs += [PATH.control(b, 'width', 'narrower width', from_dense=False) for b in (first, 0.5)]
    for budget in others:
        runs += PATH.free(budget)[:2]
    options = {'shape': SHAPE, 'budgets': BUDGETS, 'fit': True, 'rounds': 10, 'check': 10}
    runs.append(Run('calibrate-tokens', 'calibrate', TOKENS, _TOKEN_SITES, options=options, seeded=False))
    runs += [_tokens(budget) for budget in (0.8, first)]
    runs.append(PATH.control(0.8, 'width', 'narrower width', from_dense=False))
    runs.append(measured(PATH.dense, rounds=15))
    return tuple(runs)


CAMVID_SWIN = Suite(
    name='camvid-swin',
    title='Window pruning on CamVid',
    about=f"""Semantic segmentation of CamVid, all 367 training pictures, 11 classes, scored at full size on the 233
test pictures. A Swin with 2-2-6-2 blocks and 32 channels (3.2 M parameters with its FPN head), pictures of 240x320,
trained from nothing: {DENSE} epochs dense, {ADAPT} of adaptation, {TUNE} of fine-tuning, batch 8, bfloat16
([configs](../configs/camvid/README.md)).

*SparseViT* is the whole path: adaptation at random sparsities, a search of {TRIALS} candidates on {SEARCHED} training
pictures, fine-tuning at what it found. *uniform sparsity* and *random windows* (at the sparsity that was found) start
from the same adapted weights and are fine-tuned alike. *dense, trained as long*, *smaller input* and *not adapted* go
on from the dense weights for {ADAPT + TUNE} epochs; *narrower width* trains from nothing for {DENSE + ADAPT + TUNE}.
So all of these have seen as many pictures. *searched, not trained* is the dense model at what a search on its weights
found, and *not adapted* is trained at that. *tokens* is a DynamicSwin with sites in all stages, at a sparsity by its
table, with a keep-ratio loss and the dense model as its teacher. Sparsity, size and width of the controls are those
whose latency, measured before, is nearest to the budget.""",
    runs=_runs(),
    metric='mIoU',
    metric_title='mIoU',
    data=('data/camvid/images/train', 'data/camvid/images/test', 'data/camvid/labels/train'),
    claims=(
        Claim('at most 0.5 below dense trained as long', 'SparseViT', 'dense, trained as long', 0.65, -0.5),
        Claim('at most 1.5 below dense trained as long', 'SparseViT', 'dense, trained as long', 0.5, -1.5),
        *(
            Claim(f'better than {label}', 'SparseViT', label, budget)
            for budget in (0.65, 0.5)
            for label in ('uniform sparsity', 'random windows', 'smaller input', 'narrower width')
        ),
        Claim('adaptation helps', 'SparseViT', 'not adapted', 0.65),
        Claim('fine-tuning helps', 'SparseViT', 'SparseViT, not fine-tuned', 0.65),
        Claim('training helps a search', 'SparseViT', 'searched, not trained', 0.65),
        Claim('windows rather than tokens', 'SparseViT', 'tokens (DynamicSwin)', 0.8),
    ),
    left_out=(
        'one ranking of windows a stage against one a site: `SparseSwin` ranks once a stage, as in the paper, and its '
        'blocks keep prefixes of that ranking; there is no option to rank again.',
    ),
)
