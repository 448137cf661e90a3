"""The freeze in runners: who moves and who does not, under schedulers, clipping, decay, AMP and resumption."""

import copy
from pathlib import Path

import pytest
import torch
from hook_runs import Segments, build, family_cfg, run, segmentor_cfg
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.runner import Runner
from torch import nn

HOOK = dict(type='sparsevit_mm.BackboneFreezeHook')
ITERS = HOOK | dict(by_epoch=False)
DECAY = dict(optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.5))


class Moves(Hook):
    """Names of the parameters that each iteration changed."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.moved: list[set[str]] = []

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        self.before = {name: p.detach().clone() for name, p in runner.model.named_parameters()}

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        now = dict(runner.model.named_parameters())
        self.moved.append({name for name, p in self.before.items() if not torch.equal(p, now[name])})


def parts(model: nn.Module) -> tuple[set[str], set[str]]:
    """Names of what is held, and of what is not."""
    names = {name for name, _ in model.named_parameters()}
    held = {name for name in names if name.startswith('backbone.') and 'selector' not in name}
    return held, names - held


def cfg() -> dict:
    """A segmentor that uses all of its parameters."""
    backbone = segmentor_cfg(out_indices=(1,))
    return backbone | dict(decode_head=segmentor_cfg()['decode_head'] | dict(in_index=0))


@pytest.mark.parametrize('wrapper', ['OptimWrapper', 'sparsevit_mm.BFloat16OptimWrapper'])
@pytest.mark.parametrize('groups', ['one group', 'a group a parameter'])
def test_the_backbone_is_held_and_then_let_go(tmp_path: Path, wrapper: str, groups: str) -> None:
    model, moves = build(cfg()), Moves()
    held, free = parts(model)
    options = DECAY | dict(type=wrapper, clip_grad=dict(max_norm=1.0))
    if groups == 'a group a parameter':
        options['paramwise_cfg'] = dict(custom_keys={'norm': dict(decay_mult=0.0)})
    # Each step of this scheduler multiplies the rate that it finds.
    scheduler = [dict(type='ExponentialLR', gamma=0.5, by_epoch=False)]
    runner = run(
        tmp_path, model, [ITERS | dict(duration=2), moves], iters=4, optim_wrapper=options, param_scheduler=scheduler
    )
    assert len(held) > 20 and any('selector' in name for name in free)
    assert moves.moved[:2] == [free, free] and moves.moved[2:] == [held | free] * 2
    assert {group['lr'] for group in runner.optim_wrapper.param_groups} == {1e-2 * 0.5**3}  # as without the hook
    assert all(p.requires_grad for p in model.parameters())
    steps = {name: runner.optim_wrapper.optimizer.state[p]['step'].item() for name, p in model.named_parameters()}
    assert {steps[name] for name in held} == {2} and {steps[name] for name in free} == {4}


def test_held_gradients_have_no_part_in_clipping(tmp_path: Path) -> None:
    norms = []

    class Look(Hook):
        def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
            norms.append(runner.message_hub.get_scalar('train/grad_norm').current())

    model = build(cfg())
    _, free = parts(model)
    options = DECAY | dict(clip_grad=dict(max_norm=1e-3))
    alone = copy.deepcopy(model)
    for name, parameter in alone.named_parameters():
        parameter.requires_grad_(name in free)
    for student, hooks in ((model, [ITERS | dict(duration=1)]), (alone, []), (copy.deepcopy(model), [])):
        run(tmp_path, student, [*hooks, Look()], iters=1, optim_wrapper=copy.deepcopy(options), randomness=dict(seed=0))
    assert norms[0] == pytest.approx(norms[1], rel=1e-5) and norms[0] < 0.999 * norms[2]


def test_it_needs_no_hooks_of_the_optimizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older releases of torch take them away as soon as anything is compiled."""
    torch.optim.AdamW([torch.zeros(1)])  # the first one wraps its step to call hooks
    plain = torch.optim.AdamW.step.__wrapped__

    def step(self, *args, **kwargs):
        return plain(self, *args, **kwargs)

    step.hooked = True  # so that the next one does not wrap it again
    monkeypatch.setattr(torch.optim.AdamW, 'step', step)
    model, moves = build(cfg()), Moves()
    held, free = parts(model)
    runner = run(tmp_path, model, [ITERS | dict(duration=2), moves], iters=4, optim_wrapper=DECAY)
    assert moves.moved == [free, free, held | free, held | free]
    assert 'step' not in vars(runner.optim_wrapper)


def test_accumulated_gradients_of_the_freeze_do_not_count(tmp_path: Path) -> None:
    model, moves = build(cfg()), Moves()
    held, free = parts(model)
    run(tmp_path, model, [ITERS | dict(duration=2), moves], iters=4, optim_wrapper=DECAY | dict(accumulative_counts=2))
    assert moves.moved == [set(), free, set(), held | free]


def test_epochs(tmp_path: Path) -> None:
    model, moves = build(cfg()), Moves()
    held, free = parts(model)
    loader = dict(
        batch_size=2, num_workers=0, dataset=Segments(), sampler=dict(type='DefaultSampler', shuffle=False)
    )  # fmt: skip
    run(
        tmp_path,
        model,
        [HOOK | dict(duration=1), moves],
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=10),
        train_dataloader=loader,
        default_hooks=dict(checkpoint=None),
        optim_wrapper=DECAY,
    )
    assert moves.moved == [free] * 2 + [held | free] * 2


@pytest.mark.parametrize('first', [1, 3])
def test_a_resumed_run_goes_on(tmp_path: Path, first: int) -> None:
    options = dict(
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=False)), optim_wrapper=DECAY
    )
    held, free = parts(build(cfg()))
    moves = Moves(), Moves()
    run(tmp_path, build(cfg()), [ITERS | dict(duration=2), moves[0]], iters=first, **options)
    run(tmp_path, build(cfg()), [ITERS | dict(duration=2), moves[1]], iters=4, resume=True, **options)
    assert moves[0].moved + moves[1].moved == [free] * 2 + [held | free] * 2


def test_it_is_over_with_the_training(tmp_path: Path) -> None:
    model, moves = build(cfg()), Moves()
    run(tmp_path / 'first', model, [ITERS | dict(duration=9), moves], optim_wrapper=DECAY)
    run(tmp_path / 'second', model, [moves], optim_wrapper=DECAY)
    held, free = parts(model)
    assert moves.moved == [free] * 2 + [held | free] * 2


def test_other_parts_can_be_trained(tmp_path: Path) -> None:
    model, moves = build(cfg()), Moves()
    run(tmp_path, model, [ITERS | dict(duration=9, trained=['norm']), moves], optim_wrapper=DECAY)
    moved = {name for name in moves.moved[0] if name.startswith('backbone.')}
    assert moved == {name for name, _ in model.named_parameters() if name.startswith('backbone.') and 'norm' in name}


@pytest.mark.parametrize(
    ('family', 'keys', 'new'),
    [
        ('SparseSwin', {'backbone': 0.01, 'selector.': 1.0}, ('selector',)),
        ('PrunedViT', {'backbone': 0.01, 'selectors.': 1.0}, ('selector',)),
        (
            'DynamicSwin',
            {'stages': 0.01, 'patch_embed': 0.01, 'selectors.': 1.0, '.fast.': 1.0},
            ('selector', '.fast.', 'backbone.norm'),
        ),
    ],
)
def test_learning_rates_of_the_docstring(family: str, keys: dict[str, float], new: tuple[str, ...]) -> None:
    model = build(family_cfg(family, sparse=True))
    custom = {key: dict(lr_mult=value) for key, value in keys.items()}
    wrapper = build_optim_wrapper(model, DECAY | dict(paramwise_cfg=dict(custom_keys=custom)))
    rates = {id(group['params'][0]): group['lr'] for group in wrapper.param_groups}
    for name, parameter in model.named_parameters():
        full = 'backbone' not in name or any(part in name for part in new)
        assert rates[id(parameter)] == pytest.approx(1e-2 if full else 1e-4), name


@pytest.mark.parametrize('family', ['DynamicSwin', 'DynamicConvNeXt', 'PrunedViT'])
def test_new_parts_of_each_family_are_trained(tmp_path: Path, family: str) -> None:
    model, moves = build(family_cfg(family, sparse=True)), Moves()
    run(tmp_path, model, [ITERS | dict(duration=9), moves], optim_wrapper=DECAY)
    moved = {name for name in moves.moved[0] if name.startswith('backbone.')}
    assert moved == {name for name, _ in model.named_parameters() if 'selector' in name or '.fast.' in name}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(duration=0), 'duration of BackboneFreezeHook'),
        (dict(duration=1.5), 'duration of BackboneFreezeHook'),
        (dict(duration=1, trained='selector'), 'trained of BackboneFreezeHook'),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ROOT_HOOKS.build(HOOK | options)


def test_epochs_in_a_loop_without_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='BackboneFreezeHook has by_epoch=True'):
        run(tmp_path, build(cfg()), [HOOK | dict(duration=1)])
