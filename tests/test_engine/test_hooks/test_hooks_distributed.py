"""All hooks of a learned sparsity together, in two real processes."""

import json
from pathlib import Path

import pytest
import torch
from hook_runs import FAMILIES, build, family_cfg, run
from two_processes import run_in_two_processes

from sparsevit_mm.engine.hooks import teacher as teacher_module

TERMS = {'loss_keep_ratio', 'loss_distill_feature', 'loss_distill_logits'}


PLAIN, BFLOAT16 = 'OptimWrapper', 'sparsevit_mm.BFloat16OptimWrapper'
# Family, whether it is sparse, whether it is annealed to that, and the precision.
CASES = {f'{name} {how}': (name, how == 'sparse', False, PLAIN) for name in FAMILIES for how in ('sparse', 'dense')}
CASES |= {f'{name} annealed in bfloat16': (name, True, True, BFLOAT16) for name in FAMILIES}


def _train(folder: Path, family: str, sparse: bool, schedule: bool, **options) -> tuple[torch.nn.Module, list[dict]]:
    model = build(family_cfg(family, sparse))
    keys = set(model.state_dict())
    names = ['KeepRatioLossHook', 'DistillationHook']
    hooks = [dict(type=f'sparsevit_mm.{name}') for name in names]
    hooks.append(dict(type='sparsevit_mm.BackboneFreezeHook', duration=1, by_epoch=False))
    hooks.append(dict(type='sparsevit_mm.SparsityLogHook', interval=1))
    if schedule:
        hooks.append(dict(type='sparsevit_mm.SparsityScheduleHook', end=2))
    runner = run(folder, model, hooks, iters=4, randomness=dict(seed=7, diff_rank_seed=True), **options)
    assert set(model.state_dict()) == keys
    return model, runner.losses


def _train_rank(rank: int, folder: str) -> None:
    passes = []
    forward = teacher_module.Teacher.forward
    teacher_module.Teacher.forward = lambda self, *args: passes.append(0) or forward(self, *args)
    for case, (family, sparse, schedule, wrapper) in CASES.items():
        passes.clear()
        model, losses = _train(
            Path(folder, case),
            family,
            sparse,
            schedule,
            launcher='pytorch',
            optim_wrapper=dict(type=wrapper, optimizer=dict(type='Adam', lr=1e-3), clip_grad=dict(max_norm=1.0)),
            env_cfg=dict(dist_cfg=dict(backend='gloo')),
            cfg=dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None)),
        )
        # What selectors learn of a batch belongs to all of its processes.
        cuts = {name: buffer for name, buffer in model.named_buffers() if name.endswith('.cut')}
        torch.save(dict(model.named_parameters()) | cuts, f'{folder}/{case}/{rank}.pth')
        Path(folder, case, f'{rank}.json').write_text(json.dumps(dict(losses=losses, passes=len(passes))))


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left of every case."""
    folder = tmp_path_factory.mktemp('ranks')
    run_in_two_processes(_train_rank, str(folder))
    return folder


@pytest.mark.parametrize('case', CASES)
def test_two_processes(folder: Path, case: str) -> None:
    family, sparse, schedule, _ = CASES[case]
    ranks = [json.loads((folder / case / f'{rank}.json').read_text()) for rank in range(2)]
    for rank in ranks:
        assert rank['passes'] == len(rank['losses']) == 4
        assert all(TERMS.issubset(losses) for losses in rank['losses'])
        dense = [losses['loss_keep_ratio'] == 0 for losses in rank['losses']]
        assert dense == ([True] + [False] * 3 if schedule else [not sparse] * 4)
    assert ranks[0]['losses'] != ranks[1]['losses']  # other images
    first, second = (torch.load(folder / case / f'{rank}.pth', weights_only=True) for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    start = dict(build(family_cfg(family, sparse)).named_parameters())
    taught = [name for name in start if 'selector' in name and not torch.equal(first[name], start[name])]
    cuts = [value for name, value in first.items() if name not in start]
    assert bool(cuts) == ('counts of images' in family) and all(bool(cut) == sparse for cut in cuts)
    assert bool(taught) == sparse
