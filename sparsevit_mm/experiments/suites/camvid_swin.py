"""SparseViT's path on CamVid with a compact Swin, and all controls at the same latencies."""

from dataclasses import replace

from ..plan import Claim, From, Row, Run, Suite
from .parts import START, SwinPath, by_epochs, measured, size_candidate, uniform_controls, width_controls

__all__ = ['CAMVID_SWIN']

STEM = 'camvid/fpn_swin-micro-p4-w7_20e_camvid-336x336'
TOKENS = 'camvid/fpn_dynamic-swin-micro-p4-w7_20e_camvid-336x336_sparse-rho70.py'
SHAPE, CROP = (360, 480), 336
# The first one is what the paper's claims are checked at; the order is that in which runs are started.
CONTROLLED, MILD = (0.65, 0.5), 0.8
BUDGETS = (*CONTROLLED, MILD)
# Epochs of 92 iterations of 4 pictures: dense, adaptation, fine-tuning.
DENSE, ADAPT, TUNE = 20, 4, 4
TRIALS, SEARCHED = 24, 64
RATE = 0.0003  # of all that starts from trained weights
WARMUP = 100


def _sizes() -> list[dict]:
    """Smaller pictures of the same form, trained on crops that show as much of them."""
    found = []
    for height in range(180, SHAPE[0], 12):
        width, crop = height * 4 // 3, 2 * round(CROP * height / SHAPE[0] / 2)
        candidate = size_candidate((height, width), (width, height), {'train': 2, 'val': 1, 'test': 1})
        candidate['overrides'] |= {
            'model.data_preprocessor.size': (crop, crop),
            'train_dataloader.dataset.pipeline.3.crop_size': (crop, crop),
        }
        found.append(candidate)
    return found


PATH = SwinPath(
    dense=f'{STEM}.py',
    adapt=f'{STEM}_sparse-adapt.py',
    search=f'{STEM}_sparse-search.py',
    tune=f'{STEM}_sparse-example.py',
    shape=SHAPE,
    test={'splits': ('test',)},
    searching={'trials': TRIALS, 'search_images': SEARCHED, 'rungs': (0.25, 0.5)},
    longer=by_epochs(ADAPT + TUNE, lr=RATE),
    anew=by_epochs(DENSE + ADAPT + TUNE, warmup=WARMUP),
)
CONTROLS = {'uniform': uniform_controls(step=0.025), 'size': _sizes(), 'width': width_controls(range(12, 32, 4))}


def _tokens() -> Run:
    """Tokens instead of windows, where and as many as published, for as long as adaptation and fine-tuning take."""
    start = {START: From('dense', 'checkpoint')}
    return Run('tokens', 'train', TOKENS, start, options=PATH.tested, row=Row('tokens (DynamicSwin)'))


def _half() -> Run:
    """Dense for the epochs of the adaptation, from the same weights and by the same schedule."""
    overrides = {**by_epochs(ADAPT, lr=RATE), START: From('dense', 'checkpoint')}
    return Run('half', 'train', PATH.dense, overrides, options=PATH.tested, row=Row('dense, half as long'))


def _runs() -> tuple[Run, ...]:
    first = CONTROLLED[0]
    dense, adapt, longer = PATH.trained()
    adapt = replace(adapt, row=Row('adapted, dense'))
    runs = [PATH.calibrated(BUDGETS, CONTROLS, check=20), dense, adapt, longer]
    for budget in CONTROLLED:
        runs += [*PATH.found(budget), PATH.uniform(budget), PATH.random(budget)]
    runs += [PATH.control(budget, 'size', 'smaller input', from_dense=True) for budget in CONTROLLED]
    runs += PATH.free(first)
    runs.append(PATH.reranked(first))
    runs.append(PATH.control(first, 'width', 'narrower width', from_dense=False))
    runs += [*PATH.found(MILD), PATH.uniform(MILD), _tokens()]
    runs += [PATH.distilled(budget) for budget in CONTROLLED]
    runs += PATH.free(CONTROLLED[1])
    half = _half()
    runs += [half, PATH.dense_start(first, half.name)]
    runs.append(measured(PATH.dense, rounds=15))
    return tuple(runs)


CAMVID_SWIN = Suite(
    name='camvid-swin',
    title='Window pruning on CamVid',
    about=f"""Semantic segmentation of CamVid, all 367 training pictures, 11 classes, scored on the 233 test pictures of
360x480 as wholes. A Swin with 2-2-6-2 blocks and 32 channels (3.2 M parameters with its FPN head), trained from
nothing on crops of {CROP}x{CROP}: {DENSE} epochs dense, {ADAPT} of adaptation, {TUNE} of fine-tuning, batch 4, bfloat16
where the processor has it ([configs](../configs/camvid/README.md)).

*SparseViT* is the whole path: adaptation at random sparsities, a search of {TRIALS} candidates on {SEARCHED} training
pictures, fine-tuning at what it found. *uniform sparsity* and *random windows* (at the sparsity that was found) start
from the same adapted weights and are fine-tuned alike. *dense, trained as long*, *smaller input* and *not adapted* go
on from the dense weights for {ADAPT + TUNE} epochs; *narrower width* trains from nothing for {DENSE + ADAPT + TUNE}.
So all of these have seen as many pictures. *searched, not trained* is the dense model at what a search on its weights
found, and *not adapted* is trained at that. *distilled* is fine-tuned with the adapted model at sparsity 0 as its
teacher. *ranked at each site* is what the search found, with windows that are scored anew before each site and not once
a stage. *tokens* is a DynamicSwin with its published sites and ratios, all in stage 3, with a keep-ratio loss and the
dense model as its teacher, and has no budget: so narrow a model saves less by it than its predictors take. Sparsity,
size and width of the controls are those whose latency, measured before, is nearest to the budget.

What adaptation alone does is seen beside *dense, half as long*, the dense model after the epochs of the adaptation
without it: *adapted, dense* is the adapted model at sparsity 0, and *SparseViT, dense in the place of adapted* is
fine-tuned from the former as *SparseViT* is from the latter. These, *distilled*, and *searched, not trained* and *not
adapted* at 0.5, were added to the suite when results of a seed or two were known; what they start from is not there any
more for the first seed.""",
    runs=_runs(),
    metric='mIoU',
    metric_title='mIoU',
    compared=('SparseViT', 'tokens (DynamicSwin)'),
    data=('data/camvid/images/train', 'data/camvid/images/test', 'data/camvid/labels/train'),
    claims=(
        Claim('at most 0.5 below dense trained as long', 'SparseViT', 'dense, trained as long', 0.65, -0.5),
        Claim('at most 1.5 below dense trained as long', 'SparseViT', 'dense, trained as long', 0.5, -1.5),
        *(
            Claim(f'better than {label}', 'SparseViT', label, budget, part=part)
            for budget in CONTROLLED
            for label, part in (
                ('uniform sparsity', 'search'),
                ('random windows', 'selection rather than chance'),
                ('smaller input', None),
            )
        ),
        Claim('better than narrower width', 'SparseViT', 'narrower width', 0.65),
        *(Claim('adaptation helps', 'SparseViT', 'not adapted', budget, part='adaptation') for budget in CONTROLLED),
        Claim(
            'adaptation helps what is searched alike',
            'SparseViT',
            'SparseViT, dense in the place of adapted',
            0.65,
            part='adaptation',
        ),
        Claim('adaptation costs little at sparsity 0', 'adapted, dense', 'dense, half as long', None, -0.5),
        Claim('fine-tuning helps', 'SparseViT', 'SparseViT, not fine-tuned', 0.65, part='fine-tuning'),
        *(
            Claim('distillation helps', 'SparseViT, distilled', 'SparseViT', budget, part='distillation')
            for budget in CONTROLLED
        ),
        Claim('training helps a search', 'SparseViT', 'searched, not trained', 0.65),
        Claim('windows rather than tokens', 'SparseViT', 'tokens (DynamicSwin)', MILD),
        Claim('one ranking a stage is as good', 'SparseViT', 'ranked at each site', 0.65, -0.5),
    ),
    left_out=(
        'narrower widths and windows ranked at each site at 0.5 and 0.8, random windows, smaller inputs, distillation '
        'and what was searched without training at 0.8, for the time that they take.',
    ),
)
