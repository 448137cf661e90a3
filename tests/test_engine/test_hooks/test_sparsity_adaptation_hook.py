"""The adaptation hook in runners of mmengine, from one iteration to two processes and a resumed run."""

import json
import random
import uuid
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.runner import Runner
from torch.utils.data import Dataset
from two_processes import run_in_two_processes

from sparsevit_mm.compat import allow_mmengine_checkpoints
from sparsevit_mm.engine.hooks import SparsityAdaptationHook
from sparsevit_mm.models import SparseSwin

OWN = (0.5, 0.25, 0.75)  # no value of it is a choice below
CHOICES = (0.0, 0.3, 0.6)


class Images(Dataset):
    metainfo = {}

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.full((3, 32, 32), float(index)))


class Nothing(BaseMetric):
    def process(self, data_batch: dict, data_samples: list) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict:
        return {'nothing': 0.0}


class Model(BaseModel):
    """A backbone that notes the sparsity of each of its forward passes."""

    def __init__(self, sparsity: tuple[float, ...] = OWN) -> None:
        super().__init__()
        self.backbone = SparseSwin(
            embed_dims=8, depths=(2, 4), num_heads=(1, 2), strides=(4, 2), out_indices=(0, 1), window_size=2,
            sparsity=sparsity,
        )  # fmt: skip
        self.seen = {'loss': [], 'predict': []}

    def forward(self, inputs: list[torch.Tensor], data_samples: None = None, mode: str = 'tensor') -> dict | list:
        self.seen[mode].append(self.backbone.sparsity)
        loss = sum(feature.square().mean() for feature in self.backbone(torch.stack(inputs)))
        return dict(loss=loss) if mode == 'loss' else [loss]


def run(work_dir: Path, *, iters: int = 6, hook: dict | None = None, model: Model | None = None, **options) -> Runner:
    """Train a model for some iterations, validating every second one."""
    model = model or Model()
    loader = dict(batch_size=1, num_workers=0, dataset=Images())
    settings = dict(
        train_cfg=dict(by_epoch=False, max_iters=iters, val_interval=2),
        train_dataloader=dict(sampler=dict(type='InfiniteSampler'), **loader),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=3, by_epoch=False)),
        custom_hooks=[dict(type='sparsevit_mm.SparsityAdaptationHook', choices=CHOICES) | (hook or {})],
    )
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        val_dataloader=dict(sampler=dict(type='DefaultSampler', shuffle=False), **loader),
        val_cfg=dict(),
        val_evaluator=Evaluator(Nothing(prefix='toy')),
        log_level='ERROR',
        default_scope='mmengine',
        experiment_name=uuid.uuid4().hex,
        **{**settings, **options},
    )
    runner.train()
    return runner


def test_every_iteration_trains_at_a_draw(tmp_path: Path) -> None:
    model = Model()
    runner = run(tmp_path, iters=12, model=model, randomness=dict(seed=3))
    space = model.backbone.sparsity_space(CHOICES)
    drawn = model.seen['loss']
    assert len(drawn) == 12 and all(vector in space for vector in drawn)
    assert len(set(drawn)) > 3
    hook = next(hook for hook in runner.hooks if isinstance(hook, SparsityAdaptationHook))
    assert drawn == [hook.draw(i) for i in range(12)]


def test_validation_and_the_finished_model_are_at_the_own_sparsity(tmp_path: Path) -> None:
    model = Model()
    run(tmp_path, model=model)
    assert len(model.seen['predict']) == 3 * 4  # three validations of four images
    assert set(model.seen['predict']) == {OWN}
    assert model.backbone.sparsity == OWN


def test_epoch_based_runner(tmp_path: Path) -> None:
    model = Model()
    run(
        tmp_path,
        model=model,
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
        train_dataloader=dict(
            batch_size=1, num_workers=0, dataset=Images(), sampler=dict(type='DefaultSampler', shuffle=True)
        ),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        randomness=dict(seed=3),
    )
    by_iterations = Model()
    run(tmp_path / 'iterations', iters=8, model=by_iterations, randomness=dict(seed=3))
    assert model.seen['loss'] == by_iterations.seen['loss']
    assert set(model.seen['predict']) == {OWN}


@pytest.mark.parametrize('seed', [None, 11], ids=['seed of the runner', 'seed of its own'])
def test_resumed_run_goes_on_as_an_uninterrupted_one(tmp_path: Path, seed: int | None) -> None:
    allow_mmengine_checkpoints()
    whole, first, second = Model(), Model(), Model()
    # Without a seed in the config the runner draws one; the first half takes that of the whole run.
    drawn_seed = run(tmp_path / 'whole', model=whole, hook=dict(seed=seed)).seed
    run(tmp_path / 'half', iters=3, model=first, hook=dict(seed=seed), randomness=dict(seed=drawn_seed))
    run(tmp_path / 'half', model=second, hook=dict(seed=seed), resume=True)
    assert len(second.seen['loss']) == 3
    assert first.seen['loss'] + second.seen['loss'] == whole.seen['loss']


def test_own_seed_decides_alone(tmp_path: Path) -> None:
    one, two, other = Model(), Model(), Model()
    run(tmp_path, model=one, hook=dict(seed=5), randomness=dict(seed=0))
    run(tmp_path, model=two, hook=dict(seed=5), randomness=dict(seed=1))
    run(tmp_path, model=other, hook=dict(seed=6), randomness=dict(seed=0))
    assert one.seen['loss'] == two.seen['loss'] != other.seen['loss']


def test_interval_shares_a_draw_with_gradient_accumulation(tmp_path: Path) -> None:
    model = Model()
    wrapper = dict(optimizer=dict(type='SGD', lr=1e-3), accumulative_counts=4)
    run(tmp_path, iters=24, model=model, hook=dict(interval=4), optim_wrapper=wrapper, randomness=dict(seed=3))
    drawn = model.seen['loss']
    assert drawn == [vector for vector in drawn[::4] for _ in range(4)]
    assert len(set(drawn)) > 2


def test_no_other_random_generator_moves(tmp_path: Path) -> None:
    runner = run(tmp_path, iters=1)
    hook = next(hook for hook in runner.hooks if isinstance(hook, SparsityAdaptationHook))
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    hook.before_train_iter(runner, 1)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_ema_model_keeps_the_own_sparsity(tmp_path: Path) -> None:
    ema_sparsity = []

    class Watch(Hook):
        def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
            ema = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook')
            ema_sparsity.append(ema.ema_model.module.backbone.sparsity)

    model = Model()
    adaptation = dict(type='sparsevit_mm.SparsityAdaptationHook', choices=CHOICES)
    runner = run(tmp_path, model=model, custom_hooks=[adaptation, dict(type='EMAHook'), Watch()])
    assert ema_sparsity == [OWN] * 6
    assert set(model.seen['predict']) == {OWN}
    ema = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook')
    assert ema.ema_model.module.backbone.sparsity == OWN


def test_sparsity_that_another_hook_sets_is_kept(tmp_path: Path) -> None:
    class Schedule(Hook):
        def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
            if runner.iter == 2:
                runner.model.backbone.sparsity = 0.9

        priority = 'VERY_LOW'

    model = Model()
    adaptation = dict(type='sparsevit_mm.SparsityAdaptationHook', choices=CHOICES)
    run(tmp_path, model=model, custom_hooks=[adaptation, Schedule()])
    assert model.seen['predict'] == [OWN] * 4 + [(0.9,) * 3] * 8
    assert model.backbone.sparsity == (0.9,) * 3


def test_mean_sparsity_is_logged(tmp_path: Path) -> None:
    model = Model()
    hooks = dict(logger=dict(type='LoggerHook', interval=1))
    runner = run(tmp_path, iters=3, model=model, default_hooks=hooks, log_processor=dict(by_epoch=False))
    lines = [json.loads(line) for line in Path(runner._log_dir, 'vis_data', 'scalars.json').read_text().splitlines()]
    logged = [line['sparsity'] for line in lines if 'loss' in line]
    assert logged == pytest.approx([sum(vector) / 3 for vector in model.seen['loss']])


def test_draws_are_uniform_over_allowed_vectors(tmp_path: Path) -> None:
    runner = run(tmp_path, iters=1, hook=dict(seed=0))
    hook = next(hook for hook in runner.hooks if isinstance(hook, SparsityAdaptationHook))
    counts = Counter(hook.draw(i) for i in range(18_000))
    assert len(counts) == 3 * 6
    assert all(abs(count - 1000) < 5 * 1000**0.5 for count in counts.values())


def _train_rank(rank: int, folder: str) -> None:
    model = Model()
    run(
        Path(folder),
        model=model,
        launcher='pytorch',
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        randomness=dict(seed=7, diff_rank_seed=True),
        cfg=dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None)),
    )
    Path(folder, f'{rank}.json').write_text(json.dumps(model.seen))


def test_two_processes_draw_alike(tmp_path: Path) -> None:
    run_in_two_processes(_train_rank, str(tmp_path))
    seen = [json.loads((tmp_path / f'{rank}.json').read_text()) for rank in range(2)]
    assert len(seen[0]['loss']) == 6 and seen[0]['loss'] == seen[1]['loss']
    alone = Model()
    run(tmp_path / 'alone', model=alone, randomness=dict(seed=7))
    assert [list(vector) for vector in alone.seen['loss']] == seen[0]['loss']


def test_model_without_sparse_backbone(tmp_path: Path) -> None:
    class Dense(Model):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = torch.nn.Linear(1, 1)

    with pytest.raises(ValueError, match='backbone'):
        run(tmp_path, model=Dense())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(choices=(0.5, 1.0)), 'choices'),
        (dict(choices=()), 'choices'),
        (dict(choices=0.5), 'choices'),
        (dict(interval=0), 'interval'),
        (dict(interval=1.5), 'interval'),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ROOT_HOOKS.build(dict(type='sparsevit_mm.SparsityAdaptationHook', **options))
