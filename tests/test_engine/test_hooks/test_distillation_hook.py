"""Distillation in runners: the distance to the teacher, and that the teacher is nowhere but on the hook."""

import copy
import json
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from hook_runs import FAMILIES, LEARNED, batch, build, current_scope, detector_cfg, family_cfg, run, segmentor_cfg
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.runner import Runner
from tiny_segmentation import make_project
from torch import nn

from sparsevit_mm.apis import load_config, sparsify_config
from sparsevit_mm.compat import autocast_dtype
from sparsevit_mm.engine.hooks import teacher as teacher_module
from sparsevit_mm.models.checkpoints import read_checkpoint
from sparsevit_mm.models.losses import feature_distillation_loss, logit_distillation_loss
from sparsevit_mm.runs import set_resume, set_work_dir, train

HOOK = dict(type='sparsevit_mm.DistillationHook')
BY_MAGNITUDE = dict(type='sparsevit_mm.MagnitudeSelector')
TERMS = ('loss_distill_feature', 'loss_distill_logits')


def plain_cfg(sparsity: float = 0.5, **options) -> dict:
    """A segmentor without chance in its training."""
    cfg = segmentor_cfg(sparsity, BY_MAGNITUDE, **options)
    cfg['decode_head']['dropout_ratio'] = 0
    return cfg


def save(model: nn.Module, path: Path) -> str:
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, path)
    return str(path)


def teacher_dict(folder: Path, cfg: dict, scope: str = 'mmseg', seed: int = 1) -> dict:
    """Config and checkpoint of a model that is not the student."""
    checkpoint = save(build(cfg, scope, seed=seed), folder / 'teacher.pth')
    return dict(config=dict(model=cfg, default_scope=scope), checkpoint=checkpoint)


def distances(student: nn.Module, teacher: nn.Module, temperature: float = 1.0, first: int = 0) -> tuple[float, float]:
    """Of features and logits, for the batch from an image on, by hand."""
    student, teacher = copy.deepcopy(student).train(), copy.deepcopy(teacher).eval()
    images = student.data_preprocessor(batch(first), training=True)['inputs']
    maps = student.backbone(images), teacher.backbone(images)
    logits = [model.decode_head.forward(features) for model, features in zip((student, teacher), maps)]
    return feature_distillation_loss(*maps).item(), logit_distillation_loss(*logits, temperature).item()


def test_the_student_as_it_was_is_the_teacher(tmp_path: Path) -> None:
    model = build(plain_cfg())
    dense = copy.deepcopy(model)
    dense.backbone.sparsity = 0
    expected = distances(model, dense, temperature=2.0)
    hook = HOOK | dict(feature_weight=3.0, logit_weight=5.0, temperature=2.0)
    losses = run(tmp_path, model, [hook]).losses[0]
    assert min(expected) > 0
    assert [losses[name] for name in TERMS] == pytest.approx([3 * expected[0], 5 * expected[1]], rel=1e-4)
    assert losses['loss'] == pytest.approx(losses['decode.loss_ce'] + sum(losses[name] for name in TERMS), rel=1e-4)
    assert model.backbone.sparsity == (0.5, 0.5)


def test_the_teacher_stands_still(tmp_path: Path) -> None:
    model, expected = build(plain_cfg(0)), []
    start = copy.deepcopy(model)

    class Look(Hook):
        def before_train_iter(self, runner: Runner, batch_idx: int, *args, **kwargs) -> None:
            expected.append([value / 2 for value in distances(runner.model, start, first=2 * (batch_idx % 2))])

    losses = run(tmp_path, model, [HOOK, Look()], iters=4).losses
    assert losses[0][TERMS[0]] == pytest.approx(0, abs=1e-10) and losses[1][TERMS[0]] > 1e-3
    for step, values in zip(losses, expected, strict=True):
        assert [step[name] for name in TERMS] == pytest.approx(values, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize('kind', ['content', 'file'])
def test_teacher_from_config_and_checkpoint(tmp_path: Path, kind: str) -> None:
    model, cfg = build(plain_cfg()), plain_cfg(0)
    source = teacher_dict(tmp_path, cfg)
    expected = distances(model, build(cfg, seed=1))
    if kind == 'file':
        Config(source['config']).dump(tmp_path / 'teacher.py')
        source['config'] = str(tmp_path / 'teacher.py')
    losses = run(tmp_path, model, [HOOK | dict(teacher=source)]).losses[0]
    assert [losses[name] for name in TERMS] == pytest.approx([value / 2 for value in expected], rel=1e-4)


def test_the_teacher_is_in_no_checkpoint_optimizer_or_average(tmp_path: Path) -> None:
    files, groups, averages = [], [], []

    class Look(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
            groups.append(sum(len(group['params']) for group in runner.optim_wrapper.param_groups))
            averages.extend(
                set(hook.ema_model.module.state_dict()) for hook in runner.hooks if isinstance(hook, EMAHook)
            )

    keys = set(build(plain_cfg()).state_dict())
    for name, hooks in (('with', [HOOK]), ('without', [])):
        model = build(plain_cfg())
        checkpoint = dict(type='CheckpointHook', interval=1, by_epoch=False)
        run(tmp_path / name, model, [*hooks, dict(type='EMAHook'), Look()], default_hooks=dict(checkpoint=checkpoint))
        files.append(read_checkpoint(tmp_path / name / 'iter_2.pth'))
        assert set(model.state_dict()) == keys
    assert set(files[0]['state_dict']) == set(files[1]['state_dict']) == keys
    assert set(files[0]['ema_state_dict']) == set(files[1]['ema_state_dict'])
    assert set(files[0]) == set(files[1])  # no load_from, so no note of it either
    assert files[0]['optimizer']['param_groups'] == files[1]['optimizer']['param_groups']
    assert len(set(groups)) == 1 and groups[0] == len(list(model.parameters()))
    assert all(names == keys for names in averages) and len(averages) == 4


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What was true at each pass of a teacher."""
    passes = []
    forward = teacher_module.Teacher.forward

    def watch(self, *args, **kwargs):
        features = forward(self, *args, **kwargs)
        passes.append(
            dict(
                autocast=autocast_dtype('cpu') is not None,
                logits=None if self.logits is None else self.logits.dtype,
                requires_grad=any(x.requires_grad for x in features),
                training=any(module.training for module in self.modules()),
                parts=[name for name, _ in self.named_children()],
            )
        )
        return features

    monkeypatch.setattr(teacher_module.Teacher, 'forward', watch)
    return passes


@pytest.mark.parametrize('amp', [False, True])
def test_the_teacher_is_frozen_and_under_the_same_autocast(tmp_path: Path, watched: list[dict], amp: bool) -> None:
    kind = dict(type='sparsevit_mm.BFloat16OptimWrapper', emulate=True) if amp else dict(type='OptimWrapper')
    wrapper = dict(kind, optimizer=dict(type='AdamW', lr=1e-3))
    cfg = dict(by_epoch=False, max_iters=2, val_interval=1)
    losses = run(tmp_path, build(plain_cfg()), [HOOK], optim_wrapper=wrapper, train_cfg=cfg).losses
    dtype = torch.bfloat16 if amp else torch.float32
    seen = dict(autocast=amp, logits=dtype, requires_grad=False, training=False, parts=['backbone', 'decode_head'])
    assert watched == [seen] * 2  # and not in the two validations
    assert all(0 < losses[i][name] < 10 for i in (0, 1) for name in TERMS)


def test_it_is_over_with_the_training(tmp_path: Path, watched: list[dict]) -> None:
    model = build(plain_cfg())
    for folder in ('first', 'second'):
        run(tmp_path / folder, model, [HOOK])
    assert len(watched) == 4
    losses = model.train()(**model.data_preprocessor(batch(), training=True), mode='loss')
    assert not set(TERMS) & set(losses) and len(watched) == 4


def test_neither_the_scope_nor_chance_is_touched(tmp_path: Path) -> None:
    pytest.importorskip('mmdet')
    seen = []

    class Look(Hook):
        def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
            seen.append((current_scope(), torch.rand(1).item()))

    source = teacher_dict(tmp_path, detector_cfg(0, BY_MAGNITUDE), 'mmdet')
    for hooks in ([], [HOOK | dict(teacher=source, logit_weight=0)]):
        run(tmp_path, build(plain_cfg()), [*hooks, Look()], iters=1, randomness=dict(seed=3))
    assert seen[0] == seen[1] and seen[0][0] == 'mmseg'


def test_a_detector_has_features_only(tmp_path: Path, watched: list[dict]) -> None:
    pytest.importorskip('mmdet')
    losses = run(tmp_path, build(detector_cfg(), 'mmdet'), [HOOK], scope='mmdet').losses
    assert TERMS[0] in losses[0] and TERMS[1] not in losses[0] and watched[0]['parts'] == ['backbone']
    with pytest.raises(ValueError, match=r'logit_weight=0\.5.*RetinaNet.*logit_weight=0'):
        run(tmp_path, build(detector_cfg(), 'mmdet'), [HOOK | dict(logit_weight=0.5)], scope='mmdet')
    with pytest.raises(ValueError, match='nothing to compare'):
        run(tmp_path, build(detector_cfg(), 'mmdet'), [HOOK | dict(feature_weight=0)], scope='mmdet')


@pytest.mark.parametrize(('left_out', 'other'), [TERMS, TERMS[::-1]])
def test_a_weight_of_zero_leaves_a_term_out(tmp_path: Path, left_out: str, other: str) -> None:
    option = 'feature_weight' if left_out == TERMS[0] else 'logit_weight'
    losses = run(tmp_path, build(plain_cfg()), [HOOK | {option: 0}]).losses[0]
    assert left_out not in losses and losses[other] > 0


def test_logits_go_through_the_neck(tmp_path: Path) -> None:
    cfg = plain_cfg()
    cfg['neck'] = dict(type='MultiLevelNeck', in_channels=[32], out_channels=32, scales=[2])
    cfg['backbone']['out_indices'] = (1,)
    cfg['decode_head']['in_index'] = 0
    model = build(cfg)
    dense = copy.deepcopy(model).eval()
    dense.backbone.sparsity = 0
    student = copy.deepcopy(model).train()
    images = model.data_preprocessor(batch(), training=True)['inputs']
    logits = [part(images, mode='tensor') for part in (student, dense)]
    losses = run(tmp_path, model, [HOOK]).losses[0]
    assert losses[TERMS[1]] == pytest.approx(logit_distillation_loss(*logits).item() / 2, rel=1e-4)


@pytest.mark.parametrize('selector', [LEARNED | dict(noise=0), BY_MAGNITUDE], ids=['learned', 'magnitude'])
def test_features_of_the_tokens_that_were_kept(tmp_path: Path, selector: dict) -> None:
    cfg = family_cfg('PrunedViT', sparse=True)
    cfg['backbone']['selector'] = selector
    model = build(cfg)
    dense = copy.deepcopy(model).eval()
    dense.backbone.sparsity = 0
    expected = distances(model, dense)[0]
    images = model.data_preprocessor(batch(), training=True)['inputs']
    student, kept = model.train().backbone(images), dict(model.backbone.computed_positions)
    assert kept and all(0 < mask.float().mean() < 1 for mask in kept.values())
    assert all(mask.shape == (len(images), *student[i].shape[2:]) for i, mask in kept.items())
    by_hand = feature_distillation_loss(student, dense.backbone(images), kept).item()
    assert by_hand < expected, 'dropped tokens differ most'
    for kept_only, distance in ((False, expected), (True, by_hand)):
        hook = HOOK | dict(feature_weight=1.0, logit_weight=0.0, kept_only=kept_only)
        losses = run(tmp_path, copy.deepcopy(model), [hook], iters=1).losses[0]
        assert losses[TERMS[0]] == pytest.approx(distance, rel=1e-3)


def test_maps_beside_class_tokens() -> None:
    one, two, token = torch.zeros(1, 4, 8, 8), torch.ones(1, 4, 8, 8), torch.zeros(1, 4)
    assert [x is y for x, y in zip(teacher_module.maps_of(([one, token], [two, token])), (one, two))] == [True] * 2
    assert teacher_module.maps_of(one) == [one] and teacher_module.maps_of((token,)) == []


@pytest.mark.parametrize('family', FAMILIES)
def test_each_family_learns_from_its_dense_self(tmp_path: Path, family: str) -> None:
    losses = run(tmp_path, build(family_cfg(family, sparse=True)), [HOOK], iters=60).losses
    mean = [sum(step[TERMS[0]] for step in part) for part in (losses[:5], losses[-5:])]
    assert mean[1] < 0.7 * mean[0]


RESUMABLE = dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False)))


def test_a_resumed_run_has_the_teacher_of_the_beginning(tmp_path: Path) -> None:
    start = save(build(plain_cfg(0)), tmp_path / 'dense.pth')
    whole = run(tmp_path / 'whole', build(plain_cfg(), seed=2), [HOOK], iters=6, load_from=start, **RESUMABLE).losses
    run(tmp_path / 'half', build(plain_cfg(), seed=2), [HOOK], iters=2, load_from=start, **RESUMABLE)
    for iters in (4, 6):  # the note outlives a second break
        rest = run(tmp_path / 'half', build(plain_cfg()), [HOOK], iters=iters, resume=True, **RESUMABLE).losses
        assert len(rest) == 2
        for name in TERMS:
            assert [losses[name] for losses in rest] == pytest.approx(
                [losses[name] for losses in whole[iters - 2 : iters]], rel=1e-3
            )


def test_a_dense_start_fills_all_that_a_dense_teacher_uses(tmp_path: Path) -> None:
    start = save(build(plain_cfg(0)), tmp_path / 'dense.pth')  # without the weights of the selectors
    for options in (dict(load_from=start), dict(resume=True)):
        iters = 2 if 'load_from' in options else 4
        losses = run(tmp_path, build(segmentor_cfg()), [HOOK], iters=iters, **options, **RESUMABLE).losses
        assert len(losses) == 2 and losses[0][TERMS[0]] > 0


def test_from_a_config_file_and_resumed(tmp_path: Path) -> None:
    """As tools/train.py does it: a dense stock checkpoint, a stock teacher, all hooks by config."""
    config, checkpoint = make_project(tmp_path, train=4, val=2)
    hooks = f"""
        custom_hooks = [
            dict(type='sparsevit_mm.KeepRatioLossHook'),
            dict(
                type='sparsevit_mm.DistillationHook',
                teacher=dict(config={str(config)!r}, checkpoint={str(checkpoint)!r}),
            ),
            dict(type='sparsevit_mm.SparsityScheduleHook', end=2),
            dict(type='sparsevit_mm.BackboneFreezeHook', duration=1, by_epoch=False),
            dict(type='sparsevit_mm.SparsityLogHook', interval=1, shape=(64, 64)),
        ]
    """
    sparse = sparsify_config(load_config(config), 0.5, selector=LEARNED)
    sparse.dump(tmp_path / 'sparse.py')
    (tmp_path / 'hooks.py').write_text("_base_ = './sparse.py'\n" + dedent(hooks))
    for kind in ('teacher', 'self'):
        for resume in (None, 'auto'):
            cfg = load_config(tmp_path / 'hooks.py', {'load_from': str(checkpoint)})
            cfg.train_cfg.max_iters = 4 if resume else 2
            if kind == 'self':
                cfg.custom_hooks[1].pop('teacher')
            set_work_dir(cfg, config, str(tmp_path / kind))
            set_resume(cfg, resume)
            train(cfg)
    lines = [
        json.loads(line)
        for file in tmp_path.glob('*/*/vis_data/scalars.json')
        for line in file.read_text().splitlines()
    ]
    assert sorted(line['step'] for line in lines if 'sparsity/macs' in line) == [1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize('fault', ['no file noted', 'file is gone', 'file without a head'])
def test_resumed_runs_that_cannot_have_that_teacher(tmp_path: Path, fault: str) -> None:
    model = build(plain_cfg(0))
    if fault == 'file without a head':
        model.decode_head = nn.Identity()
    start = None if fault == 'no file noted' else save(model, tmp_path / 'dense.pth')
    run(tmp_path, build(plain_cfg()), [HOOK], load_from=start, **RESUMABLE)
    if fault == 'file is gone':
        Path(start).unlink()
    with pytest.raises(ValueError, match=r"teacher='self'.*resumed.*give teacher=dict\(config=\.\.\., checkpoint="):
        run(tmp_path, build(plain_cfg()), [HOOK], iters=4, resume=True, **RESUMABLE)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(embed_dims=32), r'1x|2x32x16x16, 2x64x8x8.*student, 2x16x16x16, 2x32x8x8.*feature_weight=0'),
        (dict(out_indices=(1,)), r'2x32x8x8, are not those of the student, 2x16x16x16, 2x32x8x8'),
        (dict(classes=5), r'\(2, 5, 8, 8\).*\(2, 3, 8, 8\).*logit_weight=0'),
    ],
    ids=['channels', 'number', 'classes'],
)
def test_a_teacher_of_other_shapes(tmp_path: Path, options: dict, message: str) -> None:
    cfg = plain_cfg(0, **options)
    cfg['decode_head'].update(in_channels=cfg['backbone']['embed_dims'] * 2, in_index=-1)
    with pytest.raises(ValueError, match=message):
        run(tmp_path, build(plain_cfg()), [HOOK | dict(teacher=teacher_dict(tmp_path, cfg))])


def test_a_head_that_passes_its_last_layer_by(tmp_path: Path) -> None:
    model = build(plain_cfg())
    model.decode_head.cls_seg = lambda x: nn.functional.conv2d(x, torch.ones(3, 8, 1, 1))
    with pytest.raises(ValueError, match=r'loss_distill_logits has nothing to compare.*Set logit_weight=0'):
        run(tmp_path, model, [HOOK])


def test_teachers_that_cannot_be_built(tmp_path: Path) -> None:
    pytest.importorskip('mmdet')
    fitting = teacher_dict(tmp_path, plain_cfg(0))
    other = dict(model=plain_cfg(0, embed_dims=32), default_scope='mmseg')
    (tmp_path / 'detector').mkdir()
    cases = {
        'belongs to another architecture': fitting | dict(config=other),
        'cannot be read': fitting | dict(checkpoint='nowhere.pth'),
        'config .*nowhere.py.* cannot be read': fitting | dict(config='mmseg::nowhere.py'),
        'config has no model': fitting | dict(config=plain_cfg(0)),
        'RetinaNet has no decode head': teacher_dict(tmp_path / 'detector', detector_cfg(0), 'mmdet'),
    }
    for message, source in cases.items():
        with pytest.raises(ValueError, match=f'the teacher of DistillationHook: .*{message}'):
            run(tmp_path, build(plain_cfg()), [HOOK | dict(teacher=source)])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(teacher='dense.pth'), "teacher of DistillationHook must be 'self' or dict"),
        (dict(teacher=dict(config='a.py')), "teacher of DistillationHook must be 'self' or dict"),
        (dict(feature_weight=-1), 'feature_weight of DistillationHook'),
        (dict(logit_weight='1'), 'logit_weight of DistillationHook'),
        (dict(temperature=0), 'temperature of DistillationHook'),
        (dict(feature_weight=0, logit_weight=0), 'both 0'),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ROOT_HOOKS.build(HOOK | options)
