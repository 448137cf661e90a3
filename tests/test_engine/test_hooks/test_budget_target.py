"""Training to a latency budget: the sparsity is fitted before anything reads it, and a config has it afterwards."""

from dataclasses import replace
from pathlib import Path

import pytest
from hook_runs import FAMILIES, build, family_cfg, hook_of, run, segmentor_cfg
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.runner import Runner

from sparsevit_mm.apis import load_config
from sparsevit_mm.cost import Environment, LatencyTable, fit_to_budget
from sparsevit_mm.cost.backbone_identity import BackboneIdentity
from sparsevit_mm.cost.table_entries import SiteLatency
from sparsevit_mm.engine.hooks import SparsityScheduleHook
from sparsevit_mm.models import SparseBackbone

HERE = Environment.current(device='cpu', dtype='float32', batch=1, shape=(64, 64))
LOSS = dict(type='sparsevit_mm.KeepRatioLossHook')


def table_of(backbone: SparseBackbone, environment: Environment = HERE) -> LatencyTable:
    """Every site falls from 10 ms to 2 ms, the rest takes 5 ms."""
    return LatencyTable(
        backbone=BackboneIdentity.of(backbone),
        environment=environment,
        choices=(0.0, 0.4, 0.8),
        sites=(SiteLatency((0.010, 0.006, 0.002)),) * len(backbone.sites),
        rest=0.005,
    )


def hook(table: LatencyTable | dict | str, budget: float | str = '60%', **options) -> dict:
    values = table.to_dict() if isinstance(table, LatencyTable) else table
    return dict(LOSS, target='budget', budget=budget, table=values, **options)


def cfg_of(family: str) -> dict:
    """A dense segmentor of a family; the tests of hooks have no PiT."""
    if family in FAMILIES:
        return family_cfg(family, sparse=False)
    cfg = segmentor_cfg(0)
    arch = dict(head_dims=(8, 8), num_heads=(2, 4), depths=(2, 3), patch_size=8, stride=8)
    cfg['backbone'] = dict(type=f'sparsevit_mm.{family}', arch=arch, img_size=64, out_indices=(1,))
    cfg['decode_head'].update(in_channels=32, in_index=0)
    return cfg


@pytest.mark.parametrize('family', sorted({*FAMILIES, 'PrunedPiT'}))
def test_every_family_is_trained_at_the_fitted_sparsity(family: str, tmp_path: Path) -> None:
    model = build(cfg_of(family))
    table = table_of(model.backbone)
    table.save(tmp_path / 'table.json')
    runner = run(tmp_path, model, [hook(str(tmp_path / 'table.json'))])
    fitted = fit_to_budget(table, '60%')
    assert model.backbone.sparsity == fitted and any(fitted)
    assert table.predict(fitted) <= 0.6 * 0.95 * table.dense + 1e-12
    assert all(losses['loss_keep_ratio'] > 0 for losses in runner.losses)


def test_it_is_set_before_others_look(tmp_path: Path) -> None:
    model = build(segmentor_cfg(0))
    others = [
        dict(type='sparsevit_mm.SparsityLogHook'),
        dict(type='EMAHook'),
        dict(type='sparsevit_mm.SparsityScheduleHook', end=2),
    ]
    runner = run(tmp_path, model, [*others, hook(table_of(model.backbone))], log_level='INFO')
    fitted = model.backbone.sparsity
    assert any(fitted)
    assert hook_of(runner, EMAHook).ema_model.module.backbone.sparsity == fitted
    assert hook_of(runner, SparsityScheduleHook)._ends == ((0.0, 0.0), fitted)
    (log,) = tmp_path.glob('*/*.log')
    lines = [line for line in log.read_text().splitlines() if 'Sparsity' in line and 'stage1.pair1' in line]
    sites = f'stage1.pair1 {fitted[0]:g}, stage2.pair1 {fitted[1]:g}'
    assert f'Sparsity fitted to 15 ms: {sites}; predicted are 14' in lines[0] and '% of dense, on ' in lines[0]
    assert lines[1].endswith(f'Sparsity of SparseSwin: {sites}.')


CONFIG = """
default_scope = 'mmseg'
custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)
model = {model}
custom_hooks = [
    dict(
        type='sparsevit_mm.KeepRatioLossHook', weight=3.0, target='budget', budget='14.5ms', table={table!r}, margin=0,
        weights=[2, 1]),
    dict(type='sparsevit_mm.SparsityLogHook'),
]
"""


def test_the_config_that_is_written_has_it(tmp_path: Path) -> None:
    cfg = segmentor_cfg(0)
    model = build(cfg)
    table_of(model.backbone).save(tmp_path / 'table.json')
    base = tmp_path / 'mine.py'
    base.write_text(CONFIG.format(model=cfg, table=str(tmp_path / 'table.json')))
    config = load_config(base)
    hooks = config.custom_hooks
    config.update(work_dir='elsewhere', launcher='none', resume=False)
    work_dir = tmp_path / 'work'
    run(work_dir, model, [dict(hooks[0]), dict(hooks[1])], cfg=config)
    fitted = load_config(work_dir / 'fitted_config.py')
    assert fitted.model.backbone.sparsity == model.backbone.sparsity and any(model.backbone.sparsity)
    assert fitted.custom_hooks == [dict(type=LOSS['type'], weight=3.0), dict(type='sparsevit_mm.SparsityLogHook')]
    assert 'work_dir' not in fitted and 'launcher' not in fitted and 'resume' not in fitted
    assert 'Sparsity fitted to 14.5 ms' in (work_dir / 'fitted_config.py').read_text()
    again = build(fitted.model.to_dict())
    runner = run(tmp_path / 'again', again, [dict(hook) for hook in fitted.custom_hooks])
    assert again.backbone.sparsity == model.backbone.sparsity and runner.losses[0]['loss_keep_ratio'] > 0
    assert not (tmp_path / 'again' / 'fitted_config.py').exists()


def test_a_run_without_training_is_left_alone(tmp_path: Path) -> None:
    model = build(segmentor_cfg(0.25))
    runner = run(tmp_path, model, [hook('there is none')], train=False, log_level='WARNING')
    runner.val()
    assert model.backbone.sparsity == (0.25, 0.25)
    (log,) = tmp_path.glob('*/*.log')
    assert "fits a sparsity to '60%' in training only; this run is at that of its config, 0.25, 0.25" in log.read_text()


def started(tmp_path: Path, model_sparsity: float = 0.0, **options) -> Runner:
    """A training that must fail before its first iteration."""
    model = build(segmentor_cfg(model_sparsity))
    environment = options.pop('environment', HERE)
    table = options.pop('table', None) or table_of(model.backbone, environment)
    hooks = options.pop('hooks', [])
    return run(tmp_path, model, [hook(table, **options), *hooks])


ELSEWHERE = replace(HERE, device='NPU', device_name='a phone')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(budget='1ms'), r'budget 1 ms \(0\.04 of dense\) cannot be reached: the least that can be is 9\.4'),
        (dict(budget='1s'), 'nothing has to be pruned'),
        (dict(table='/nowhere/table.json'), r"latency table '/nowhere/table\.json' cannot be read"),
        (dict(environment=ELSEWHERE), r"device_name: a phone in the table, no NPU device here.*device_name='a phone'"),
        (dict(environment=replace(HERE, device_name='x')), r'cannot use its table.*device_name: x in the table'),
        (dict(conditions=dict(shape=(800, 1344))), r'shape: 64x64 in the table, 800x1344 wanted'),
        (dict(conditions=dict(gpu='x')), r'conditions of a latency table are'),
        (dict(margin=2), r'margin must be a fraction'),
        (dict(weights=[1]), r'weights must be 2 numbers above 0'),
        (
            dict(hooks=[dict(type='sparsevit_mm.SparsityScheduleHook', end=2, target=0.5)]),
            r'SparsityScheduleHook has target=0\.5',
        ),
    ],
)
def test_mistakes_end_the_run_before_it_trains(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        started(tmp_path, **options)


def test_weights_say_where_dropping_matters(tmp_path: Path) -> None:
    even, guarded = (
        started(tmp_path / str(i), budget=0.8, weights=weights).model.backbone.sparsity
        for i, weights in enumerate((None, [50, 1]))
    )
    assert guarded[0] < even[0] and guarded[1] > even[1]


def test_another_backbone_is_refused(tmp_path: Path) -> None:
    table = table_of(build(family_cfg('PrunedViT', sparse=False)).backbone)
    with pytest.raises(ValueError, match='type of the backbone: PrunedViT in the table, SparseSwin here'):
        started(tmp_path, table=table)
    wider = table_of(build(segmentor_cfg(0, mlp_ratio=2)).backbone)
    with pytest.raises(ValueError, match='SparseSwin differs in widths, depths, selector or bypass'):
        started(tmp_path, table=wider)


def test_a_model_may_be_trained_for_another_device(tmp_path: Path) -> None:
    runner = started(tmp_path, environment=ELSEWHERE, conditions=dict(device_name='a phone', shape=[64, 64]))
    assert any(runner.model.backbone.sparsity)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(target='latency'), r"target of KeepRatioLossHook must be one of \('sparsity', 'budget'\), got 'latency'"),
        (dict(target='budget'), "target='budget' of KeepRatioLossHook needs budget and table"),
        (dict(target='budget', budget=0.6), 'needs table'),
        (dict(target='budget', budget=0, table='t.json'), r'budget is 0\.0'),
        (dict(target='budget', budget='soon', table='t.json'), 'cannot be read'),
        (dict(target='budget', budget=0.6, table=3), 'table of KeepRatioLossHook must be a file'),
        (dict(target='budget', budget=0.6, table='t.json', conditions='cpu'), 'conditions of .* must be a dict'),
        (dict(target='budget', budget=0.6, table='t.json', out='a/b.py'), 'out of .* must be a file name'),
        (dict(budget=0.6), "budget of KeepRatioLossHook mean something with target='budget' only"),
        (dict(table='t.json', margin=0.1, out='x.py'), 'table, margin, out of KeepRatioLossHook mean something'),
        (dict(weights=(1, 1)), 'weights of KeepRatioLossHook mean something'),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ROOT_HOOKS.build(LOSS | options)


def test_the_default_does_nothing_of_it(tmp_path: Path) -> None:
    model = build(segmentor_cfg(0.5))
    run(tmp_path, model, [LOSS], cfg=Config(dict(model=segmentor_cfg(0.5))))
    assert model.backbone.sparsity == (0.5, 0.5) and not list(tmp_path.glob('fitted*'))
