from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, HOOKS, LOOPS, METRICS, MODELS, OPTIM_WRAPPERS, TRANSFORMS, Registry

from sparsevit_mm.apis import drop_pretrained, init_scope, load_config
from sparsevit_mm.cost import count_macs
from sparsevit_mm.search.session import SearchOptions
from sparsevit_mm.sparsity import keep_count

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('mmdet3d')

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = ('demo', 'sparsevit', 'dynamicvit')
CONFIGS = sorted(path for family in FAMILIES for path in (ROOT / 'configs' / family).glob('*.py'))
STEPS = ('dense', 'adapt', 'search')  # any other suffix is a found or published sparsity
# Backbones with learned selectors, by what their configs have in their names: the sparsity of rho 0.7, and the rates
# of the dense part and of the selectors.
LEARNED = {
    '_pruned-dinov2': ('PrunedViT', (0.3, 0.51, 0.657), 0.1, 2.0),
    '_pruned-': ('PrunedViT', (0.3, 0.51, 0.657), 0.01, 1.0),
    '_dynamic-swin': ('DynamicSwin', (0.3, 0.5, 0.7), 0.2, 1.0),
    '_dynamic-convnext': ('DynamicConvNeXt', (0.3, 0.5, 0.7), 0.2, 1.0),
}
# In so few steps selectors learn by a fixed number, and nothing is frozen.
SHORT = '_pruned-dinov2'
HOOKS_OF_STEP = {
    'rho70': ('KeepRatioLossHook', 'DistillationHook', 'BackboneFreezeHook', 'SparsityLogHook'),
    'adapt': ('SparsityAdaptationHook', 'DistillationHook', 'BackboneFreezeHook', 'SparsityLogHook'),
    'search': ('DistillationHook', 'SparsityLogHook'),
}
HOOKS_WITHOUT_TEACHER = {
    'adapt': ('SparsityAdaptationHook',),
    'learned': ('KeepRatioLossHook', 'SparsityLogHook'),
}
# Data that is not pretrained from the net, so that it trains offline.
OFFLINE = ('demo-448x448', 'coco-mini', 'camvid', 'kitti-mini')


def _step(path: Path) -> str:
    return path.stem.rpartition('_sparse-')[2] if '_sparse-' in path.stem else 'dense'


def _stem(path: Path) -> str:
    return path.stem.partition('_sparse-')[0]


def _learned(path: Path) -> tuple[str, tuple[float, ...], float, float] | None:
    return next((kind for part, kind in LEARNED.items() if part in path.stem), None)


def _id(path: Path) -> str:
    return f'{path.parent.name}/{path.stem}'


def test_every_stem_has_its_steps() -> None:
    steps: dict[tuple[Path, str], set[str]] = {}
    for path in CONFIGS:
        steps.setdefault((path.parent, _stem(path)), set()).add(_step(path))
    learned = {stem: present for (_, stem), present in steps.items() if _learned(Path(stem))}
    assert len(steps) == 11 + len(learned) and len(learned) == 16
    for (_, stem), present in steps.items():
        if stem not in learned:
            assert set(STEPS) <= present and present - set(STEPS), f'{stem} has only {sorted(present)}'
    for stem, present in learned.items():
        # The dense step of Swin is in configs/sparsevit and configs/demo.
        assert ('dense' in present) == ('_dynamic-swin' not in stem)
        assert present - {'dense'} in ({'rho70'}, set(HOOKS_OF_STEP)), f'{stem} has only {sorted(present)}'


@pytest.mark.parametrize('path', CONFIGS, ids=_id)
def test_config_builds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr('mmengine.runner.checkpoint.load_from_http', lambda *_, **__: pytest.fail('downloads'))
    cfg = load_config(path)
    assert cfg.custom_imports.imports == ['sparsevit_mm']
    init_scope(cfg)
    if any(name in path.stem for name in OFFLINE):
        assert 'http' not in str(cfg.model)
    drop_pretrained(cfg)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    _check_sparsity(path, cfg, model.backbone)
    _check_step(path, cfg)
    _check_types(cfg)


def _check_sparsity(path: Path, cfg: Config, backbone: torch.nn.Module) -> None:
    claimed = cfg.model.backbone.get('sparsity')
    if kind := _learned(path):
        assert type(backbone).__name__ == kind[0]
        mini = '_dynamic-swin-mini' in path.stem  # its stages have two blocks each
        assert backbone.sparsity == (
            ((0.5,) * 4 if mini else kind[1]) if _step(path) == 'rho70' else (0.0,) * len(backbone.sites)
        )
        # Free decisions have no fixed number, and learn theirs from the keep ratio alone.
        draws = {selector.draw for selector in backbone.selectors()}
        assert draws == {'gumbel' if _step(path) == 'rho70' and SHORT not in path.stem else 'topk'}
        return
    assert type(backbone).__name__ == 'SparseSwin'
    if _step(path) in STEPS:
        assert claimed is None and not any(backbone.sparsity)
    else:
        assert backbone.sparsity == tuple(claimed) and any(claimed)
        assert backbone.sparsity in backbone.sparsity_space(), 'not what a search could have found'


def _check_step(path: Path, cfg: Config) -> None:
    step = _step(path)
    hooks = tuple(hook['type'].removeprefix('sparsevit_mm.') for hook in cfg.get('custom_hooks') or ())
    expected = HOOKS_OF_STEP if _learned(path) else HOOKS_WITHOUT_TEACHER
    frozen = SHORT not in path.stem
    assert hooks == tuple(name for name in expected.get(step, ()) if frozen or name != 'BackboneFreezeHook')
    loop = dict(cfg.test_cfg)
    assert (loop.pop('type') == 'sparsevit_mm.SparsitySearchLoop') == (step == 'search')
    if step == 'search':
        loop.pop('search_images', None)
        loop.pop('_scope_', None)
        assert SearchOptions(**loop).budget is not None
    start = cfg.get('load_from')
    if step not in ('dense', 'search') and not start.startswith('http'):
        before = _stem(path) if step in ('adapt', 'rho70', 'learned') else f'{_stem(path)}_sparse-adapt'
        before = before.replace('_dynamic-swin', '_swin')
        assert start.rpartition('/')[0] == f'work_dirs/{before}'
        last = load_config(next(other for other in CONFIGS if other.stem == before)).train_cfg
        name = f'epoch_{last.max_epochs}' if 'max_epochs' in last else f'iter_{last.max_iters}'
        assert start.endswith(f'/{name}.pth'), 'the last checkpoint of the step before'


# The configs of a search have the models of its adaptation.
LEARNED_CONFIGS = [path for path in CONFIGS if _learned(path) and _step(path) != 'search']


@pytest.mark.parametrize('path', LEARNED_CONFIGS, ids=_id)
def test_backbone_of_learned_selectors_runs_and_fits_what_follows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    cfg = load_config(path)
    init_scope(cfg)
    drop_pretrained(cfg)
    parts = [MODELS.build(cfg.model[name]).eval() for name in ('backbone', 'neck') if cfg.model.get(name)]
    backbone, maps = parts[0], torch.rand(1, 3, 96, 128)
    with torch.no_grad(), backbone.record_selections() as records:
        for part in parts:
            maps = part(maps)
    assert all(torch.isfinite(m).all() for m in maps)
    sparsity = dict(zip(backbone.sites, backbone.sparsity))
    assert {record.site for record in records} == set(sparsity)
    for record in records:
        assert record.kept.shape[1] == keep_count(record.num_units, sparsity[record.site])
    for head in ('decode_head', 'auxiliary_head'):
        if wanted := cfg.model.get(head):
            places, channels = wanted.get('in_index', -1), wanted.in_channels
            places, channels = ([places], [channels]) if isinstance(places, int) else (places, channels)
            assert [maps[i].shape[1] for i in places] == list(channels)


@pytest.mark.parametrize('path', LEARNED_CONFIGS, ids=_id)
def test_new_parts_learn_at_the_full_rate_and_the_dense_backbone_at_a_fraction(path: Path) -> None:
    cfg = load_config(path)
    init_scope(cfg)
    drop_pretrained(cfg)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    wrapper = {**cfg.optim_wrapper, 'type': 'OptimWrapper'}
    wrapper.pop('loss_scale', None)  # of mixed precision, which wants a GPU
    optimizer = build_optim_wrapper(model, wrapper).optimizer
    rates = {id(p): group['lr'] / optimizer.defaults['lr'] for group in optimizer.param_groups for p in group['params']}
    assert len(rates) == len(list(model.parameters()))
    if _step(path) == 'dense':  # as in the stock config
        return
    for name, parameter in model.named_parameters():
        dense = name.startswith('backbone.') and not any(part in name for part in ('selectors.', '.fast.'))
        rate = _learned(path)[2] if dense else _learned(path)[3] if 'selectors.' in name else 1.0
        assert rates[id(parameter)] == pytest.approx(rate), name


def _check_types(cfg: Config) -> None:
    """Every type that a runner would build is in its registry under the scope it will be built in."""
    scope = cfg.default_scope
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        dataset = loader.dataset
        while 'dataset' in dataset:
            dataset = dataset.dataset
        _resolve(DATASETS, dataset, scope)
        for transform in dataset.pipeline:
            _resolve(TRANSFORMS, transform, scope)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        for metric in evaluator if isinstance(evaluator, list) else [evaluator]:
            _resolve(METRICS, metric, scope)
    for hook in (*cfg.default_hooks.values(), *(cfg.get('custom_hooks') or ())):
        _resolve(HOOKS, hook, scope)
    for loop in (cfg.train_cfg, cfg.val_cfg, cfg.test_cfg):
        _resolve(LOOPS, {'type': 'EpochBasedTrainLoop', **loop}, scope)
    _resolve(OPTIM_WRAPPERS, cfg.optim_wrapper, scope)


def _resolve(registry: Registry, node: Mapping[str, Any], scope: str) -> None:
    with registry.switch_scope_and_registry(node.get('_scope_', scope)) as local:
        assert isinstance(node['type'], type) or local.get(node['type']) is not None, node['type']


def _models(family: str) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load((ROOT / 'configs' / family / 'metafile.yml').read_text())['Models']


def test_model_index_lists_every_config() -> None:
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    listed = {f'configs/{family}/metafile.yml' for family in FAMILIES}
    assert listed <= set(index['Import'])
    named = {ROOT / model['Config'] for family in FAMILIES for model in _models(family)}
    assert named == set(CONFIGS)


@pytest.mark.parametrize('family', FAMILIES)
def test_metafile_is_valid(family: str) -> None:
    content = yaml.safe_load((ROOT / 'configs' / family / 'metafile.yml').read_text())
    collections = {collection['Name'] for collection in content['Collections']}
    for collection in content['Collections']:
        assert (ROOT / collection['README']).is_file()
    for model in content['Models']:
        assert model['Name'] == Path(model['Config']).stem
        assert model['In Collection'] in collections
        for result in model.get('Results', ()):
            assert {'Task', 'Dataset', 'Metrics'} == set(result)


@pytest.mark.parametrize('family', FAMILIES)
def test_readme_names_every_config_and_every_result(family: str) -> None:
    text = (ROOT / 'configs' / family / 'README.md').read_text()
    for model in _models(family):
        assert f'{_stem(Path(model["Config"]))}' in text
        for result in model.get('Results', ()):
            for value in result['Metrics'].values():
                assert str(value) in text


def test_readme_says_the_macs() -> None:
    rows = (ROOT / 'configs' / 'dynamicvit' / 'README.md').read_text().splitlines()
    paths = [path for path in CONFIGS if path.parent.name == 'dynamicvit' and _step(path) == 'rho70']
    assert len(paths) == 13
    for path in paths:
        cfg = load_config(path)
        init_scope(cfg)
        drop_pretrained(cfg)
        with torch.device('meta'):
            backbone = MODELS.build(cfg.model).backbone
        height, width = next(hook.shape for hook in cfg.custom_hooks if 'shape' in hook)
        sparse = count_macs(backbone, (height, width))
        backbone.sparsity = 0.0
        dense = count_macs(backbone, (height, width))
        row = next(row for row in rows if f'({path.name})' in row)
        assert f'| {height}x{width} | {dense / 1e9:.1f} | {sparse / 1e9:.1f} |' in row


@pytest.mark.parametrize('path', CONFIGS, ids=_id)
def test_header_says_what_it_is(path: Path) -> None:
    header = path.read_text().partition('_base_')[0]
    for word in ('Step', 'Paper:', 'Command:', 'Expect:'):
        assert word in header
