import copy
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from math import log2
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, HOOKS, LOOPS, METRICS, MODELS, OPTIM_WRAPPERS, TRANSFORMS, Registry

from sparsevit_mm.apis import drop_pretrained, init_scope, load_config
from sparsevit_mm.cost import count_macs
from sparsevit_mm.models.checkpoints import is_grown
from sparsevit_mm.search.best_config import found_config
from sparsevit_mm.search.session import SearchOptions
from sparsevit_mm.sparsity import keep_count

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = ('demo', 'sparsevit', 'dynamicvit', 'spvit', 'camvid')
CONFIGS = sorted(path for family in FAMILIES for path in (ROOT / 'configs' / family).glob('*.py'))
STEPS = ('dense', 'adapt', 'search')  # any other suffix is a found or published sparsity


class Kind(NamedTuple):
    """Backbones with learned selectors, by what their configs have in their names.

    Args:
        backbone: The class.
        sparsity: What is trained for.
        dense_rate: Rate of the dense part.
        selector_rate: That of the selectors.
    """

    backbone: str
    sparsity: tuple[float, ...]
    dense_rate: float
    selector_rate: float


LEARNED = {
    '_pruned-dinov2': Kind('PrunedViT', (0.3, 0.51, 0.657), 0.1, 2.0),
    '_pruned-': Kind('PrunedViT', (0.3, 0.51, 0.657), 0.01, 1.0),
    '_dynamic-swin-mini': Kind('DynamicSwin', (0.5,) * 4, 0.2, 1.0),  # its stages have two blocks each
    '_dynamic-swin': Kind('DynamicSwin', (0.3, 0.5, 0.7), 0.2, 1.0),
    '_dynamic-convnext': Kind('DynamicConvNeXt', (0.3, 0.5, 0.7), 0.2, 1.0),
}
# With package tokens; dense steps of PiT too, which serve no other family.
PACKAGED = {
    'deit-tiny': Kind('PrunedViT', (0.2, 0.4, 0.6), 0.01, 1.0),
    '_pruned-deit': Kind('PrunedViT', (0.3, 0.61, 0.79), 0.01, 1.0),
    '_pruned-dinov2': Kind('PrunedViT', (0.3, 0.61, 0.79), 0.1, 2.0),
    '_pruned-pit-mini': Kind('PrunedPiT', (0.5,) * 3, 0.01, 1.0),
    '_pruned-pit': Kind('PrunedPiT', (0.3, 0.3, 0.6, 0.5), 0.01, 1.0),
    '_swin-mini': Kind('SparseSwin', (0.6,) * 4, 1.0, 1.0),
    '_swin-t': Kind('SparseSwin', (0.0, 0.3, 0.5, 0.5, 0.5, 0.3), 0.01, 1.0),
}
# In so few steps selectors learn by a fixed number, and nothing is frozen.
SHORT = ('_pruned-dinov2', '_swin-mini')
TRAINED = ('KeepRatioLossHook', 'DistillationHook', 'BackboneFreezeHook', 'SparsityLogHook')
ADAPTED = ('SparsityAdaptationHook', 'DistillationHook', 'BackboneFreezeHook', 'SparsityLogHook')
SEARCHED = ('DistillationHook', 'SparsityLogHook')
RHO_STEPS = {'rho70': TRAINED, 'adapt': ADAPTED, 'search': SEARCHED}
PACKAGE_STEPS = {
    'package': TRAINED,
    'adaptive': TRAINED,
    'budget': TRAINED,
    'phases': ('SparsityScheduleHook', *TRAINED),
    'package-adapt': ADAPTED,
    'package-search': SEARCHED,
}
HOOKS_OF_STEP = RHO_STEPS | PACKAGE_STEPS
HOOKS_WITHOUT_TEACHER = {
    'adapt': ('SparsityAdaptationHook',),
    'learned': ('KeepRatioLossHook', 'SparsityLogHook'),
    'package': ('KeepRatioLossHook', 'SparsityLogHook'),
}
# Data of which so much is searched on that weak candidates are given up after a part.
LARGE = ('_coco_', '_coco-672x672', '_ade20k-', '_cityscapes-', '_nus-mono3d')
# Data that is not pretrained from the net, so that it trains offline.
OFFLINE = ('demo-448x448', 'coco-mini', 'camvid', 'kitti-mini')


_read = cache(load_config)


def _config(path: Path) -> Config:
    """The config of a file, which is read once."""
    return copy.deepcopy(_read(path))


def _step(path: Path) -> str:
    return path.stem.rpartition('_sparse-')[2] if '_sparse-' in path.stem else 'dense'


def _stem(path: Path) -> str:
    return path.stem.partition('_sparse-')[0]


def _packaged(path: Path) -> bool:
    return _step(path) in PACKAGE_STEPS or '_pruned-pit' in path.stem


def _learned(path: Path) -> Kind | None:
    kinds = PACKAGED if _packaged(path) else LEARNED
    return next((kind for part, kind in kinds.items() if part in path.stem), None)


def _short(path: Path) -> bool:
    return any(part in path.stem for part in SHORT)


def _hooks(path: Path) -> tuple[str, ...]:
    taught = _learned(path) and '_swin-mini' not in path.stem.replace('_dynamic-swin', '')
    hooks = (HOOKS_OF_STEP if taught else HOOKS_WITHOUT_TEACHER).get(_step(path), ())
    return tuple(name for name in hooks if not _short(path) or name != 'BackboneFreezeHook')


def _id(path: Path) -> str:
    return f'{path.parent.name}/{path.stem}'


# What inherits from mmpretrain or mmdet3d can be read only where it is.
CLASSIFIERS = [path for path in CONFIGS if '_in1k' in path.stem]
MONO3D = [path for path in CONFIGS if 'mono3d' in path.stem]
READABLE = [path for path in CONFIGS if path not in CLASSIFIERS and (find_spec('mmdet3d') or path not in MONO3D)]


def test_every_stem_has_its_steps() -> None:
    steps: dict[tuple[str, str], set[str]] = {}
    for path in CONFIGS:
        steps.setdefault((path.parent.name, _stem(path)), set()).add(_step(path))
    packaged = {key: present for key, present in steps.items() if key[0] == 'spvit' or '_pruned-pit' in key[1]}
    rest = {key: present for key, present in steps.items() if key not in packaged}
    learned = {stem: present for (_, stem), present in rest.items() if _learned(Path(stem))}
    assert len(rest) == 12 + len(learned) and len(learned) == 18
    for (_, stem), present in rest.items():
        if stem not in learned:
            assert set(STEPS) <= present and present - set(STEPS), f'{stem} has only {sorted(present)}'
    for stem, present in learned.items():
        # The dense step of Swin is in configs/sparsevit and configs/demo.
        assert ('dense' in present) == ('_dynamic-swin' not in stem)
        assert present - {'dense'} in ({'rho70'}, set(RHO_STEPS)), f'{stem} has only {sorted(present)}'
    assert len(packaged) == 14
    for (_, stem), present in packaged.items():
        # The dense steps of the others are in configs/dynamicvit, configs/sparsevit and in mmpretrain.
        assert ('dense' in present) == ('_pruned-pit' in stem)
        assert 'package' in present and present - {'dense'} <= set(PACKAGE_STEPS)
    published = {'package', 'adaptive', 'budget', 'phases'}
    assert packaged['spvit', 'upernet_pruned-deit-s16_160k_ade20k-512x512'] == published
    assert packaged['spvit', 'segmenter_pruned-dinov2-s14_fcn_300i_camvid-252x336'] == set(PACKAGE_STEPS)


@pytest.mark.parametrize('path', READABLE, ids=_id)
def test_config_builds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr('mmengine.runner.checkpoint.load_from_http', lambda *_, **__: pytest.fail('downloads'))
    cfg = _config(path)
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
        assert type(backbone).__name__ == kind.backbone
        trained = 'KeepRatioLossHook' in _hooks(path)
        assert backbone.sparsity == (kind.sparsity if trained else (0.0,) * len(backbone.sites))
        if _packaged(path) and _step(path) != 'dense':
            _check_package(path, backbone)
        # Free decisions have no fixed number, and learn theirs from the keep ratio alone.
        free = trained and not _short(path) and kind.backbone != 'SparseSwin'
        expected = 'gumbel' if free else 'batch' if _step(path) == 'adaptive' else 'topk'
        assert {selector.draw for selector in backbone.selectors()} == {expected}
        return
    assert type(backbone).__name__ == 'SparseSwin'
    if _step(path) in STEPS:
        assert claimed is None and not any(backbone.sparsity)
    else:
        assert backbone.sparsity == tuple(claimed) and any(claimed)
        assert backbone.sparsity in backbone.sparsity_space(), 'not what a search could have found'


def _check_package(path: Path, backbone: torch.nn.Module) -> None:
    assert backbone.bypass == 'package'
    assert {type(selector).__name__ for selector in backbone.selectors()} == {'MultiHeadSelector'}
    assert backbone.counts == ('adaptive' if _step(path) == 'adaptive' else 'fixed')
    if backbone.sparsity != (0.3, 0.61, 0.79):  # the published one
        assert backbone.sparsity in backbone.sparsity_space(), 'not what a search could have found'


def _check_step(path: Path, cfg: Config) -> None:
    step = _step(path)
    hooks = tuple(hook['type'].removeprefix('sparsevit_mm.') for hook in cfg.get('custom_hooks') or ())
    assert hooks == _hooks(path)
    _check_options_of_hooks(path, cfg)
    loop = dict(cfg.test_cfg)
    assert (loop.pop('type') == 'sparsevit_mm.SparsitySearchLoop') == step.endswith('search')
    if step.endswith('search'):
        loop.pop('search_images', None)
        loop.pop('_scope_', None)
        options = SearchOptions(**loop)
        assert options.budget is not None
        assert tuple(options.rungs) == ((0.25, 0.5) if any(name in path.stem for name in LARGE) else ())
    start = cfg.get('load_from')
    if step not in ('dense', 'search') and not start.startswith('http'):
        from_dense = step in ('adapt', 'rho70', 'learned', *PACKAGE_STEPS)
        before = _stem(path) if from_dense else f'{_stem(path)}_sparse-adapt'
        before = before.replace('_dynamic-swin', '_swin')
        assert start.rpartition('/')[0] == f'work_dirs/{before}'
        last = _config(next(other for other in CONFIGS if other.stem == before)).train_cfg
        name = f'epoch_{last.max_epochs}' if 'max_epochs' in last else f'iter_{last.max_iters}'
        assert start.endswith(f'/{name}.pth'), 'the last checkpoint of the step before'


def _of_steps(path: Path, *steps: str) -> list[Path]:
    return [path.with_name(f'{_stem(path)}_sparse-{step}.py') for step in steps]


@pytest.mark.parametrize('path', [p for p in READABLE if _step(p) == 'search' and not _learned(p)], ids=_id)
def test_what_a_search_finds_is_trained_as_the_examples_are(path: Path) -> None:
    example = _config(next(other for other in _of_steps(path, 'example', 'cfg2') if other.exists()))
    found = found_config(_config(path), example.model.backbone.sparsity, 'adapted.pth')
    assert found.load_from.endswith('adapted.pth') and found.test_cfg.type == 'TestLoop'
    drop_pretrained(example)
    for cfg in (found, example):
        for key in ('load_from', 'test_cfg', 'custom_hooks'):
            cfg.pop(key, None)
    assert found.to_dict() == example.to_dict()


@pytest.mark.parametrize('path', [p for p in READABLE if _step(p).endswith('search') and _learned(p)], ids=_id)
def test_what_a_search_finds_is_trained_by_the_schedule_of_the_adaptation(path: Path) -> None:
    adapted = _config(path.with_name(path.name.replace('search', 'adapt')))
    found = found_config(_config(path), (0.0,) * len(_built(path).sites), 'adapted.pth')
    hooks = [hook['type'].removeprefix('sparsevit_mm.') for hook in found.custom_hooks]
    assert hooks == ['DistillationHook', 'SparsityLogHook']
    for key in ('train_cfg', 'param_scheduler', 'optim_wrapper', 'train_dataloader', 'val_evaluator'):
        assert found[key] == adapted[key]


def _built(path: Path) -> torch.nn.Module:
    cfg = _config(path)
    init_scope(cfg)
    drop_pretrained(cfg)
    with torch.device('meta'):
        return MODELS.build(cfg.model).backbone


def _check_options_of_hooks(path: Path, cfg: Config) -> None:
    """Hooks of the package family are as published, but for short trainings."""
    hooks = {hook['type'].removeprefix('sparsevit_mm.'): hook for hook in cfg.get('custom_hooks') or ()}
    if not _packaged(path) or not hooks:
        return
    if loss := hooks.get('KeepRatioLossHook'):
        assert loss.weight == (10.0 if _short(path) else 2.0)
        # Where a fixed number of each image is computed each is drawn to the target.
        assert loss.get('reduction', 'image') == ('batch' if _step(path) == 'adaptive' else 'image')
        assert loss.get('target', 'sparsity') == ('budget' if _step(path) == 'budget' else 'sparsity')
    if teacher := hooks.get('DistillationHook'):  # windows have no positions of their own
        assert teacher.get('kept_only', False) == (cfg.model.backbone.type != 'sparsevit_mm.SparseSwin')
    if freeze := hooks.get('BackboneFreezeHook'):
        whole = cfg.train_cfg.max_epochs if freeze.get('by_epoch', True) else cfg.train_cfg.max_iters
        assert freeze.duration / whole == pytest.approx(1 / 6, rel=0.01)
    if schedule := hooks.get('SparsityScheduleHook'):
        assert set(schedule) == {'type', 'phases'} and 3 * schedule.phases.length < cfg.train_cfg.max_iters


# The configs of a search have the models of its adaptation.
LEARNED_CONFIGS = [path for path in READABLE if _learned(path) and not _step(path).endswith('search')]


@pytest.mark.parametrize('path', LEARNED_CONFIGS, ids=_id)
def test_backbone_of_learned_selectors_runs_and_fits_what_follows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    cfg = _config(path)
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
        if getattr(backbone, 'counts', 'fixed') == 'fixed':
            assert record.kept.shape[1] == keep_count(record.num_units, sparsity[record.site])
    for head in ('decode_head', 'auxiliary_head'):
        if wanted := cfg.model.get(head):
            places, channels = wanted.get('in_index', -1), wanted.in_channels
            places, channels = ([places], [channels]) if isinstance(places, int) else (places, channels)
            assert [maps[i].shape[1] for i in places] == list(channels)
    if roi_head := cfg.model.get('roi_head'):
        strides = [2 ** round(log2(128 / m.shape[3])) for m in maps]
        assert cfg.model.rpn_head.anchor_generator.strides == strides
        for extractor in (roi_head.bbox_roi_extractor, roi_head.mask_roi_extractor):
            assert extractor.featmap_strides == strides[: len(extractor.featmap_strides)]


@pytest.mark.parametrize('path', LEARNED_CONFIGS, ids=_id)
def test_new_parts_learn_at_the_full_rate_and_the_dense_backbone_at_a_fraction(path: Path) -> None:
    cfg = _config(path)
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
        kind, grown = _learned(path), is_grown(name)
        dense = name.startswith('backbone.') and not grown
        rate = kind.dense_rate if dense else kind.selector_rate if grown and '.fast.' not in name else 1.0
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
    _resolve(OPTIM_WRAPPERS, {'type': 'OptimWrapper', **cfg.optim_wrapper}, scope)


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


@pytest.mark.parametrize('family, step, count', [('dynamicvit', 'rho70', 13), ('spvit', 'package', 12)])
def test_readme_says_the_macs(family: str, step: str, count: int) -> None:
    rows = (ROOT / 'configs' / family / 'README.md').read_text().splitlines()
    paths = [path for path in READABLE if path.parent.name == family and _step(path) == step]
    assert len(paths) == count - (0 if find_spec('mmdet3d') else 3)
    for path in paths:
        cfg = _config(path)
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


@pytest.mark.parametrize('path', CLASSIFIERS, ids=_id)
def test_classifier_builds_and_runs(path: Path) -> None:
    try:
        from mmpretrain.structures import DataSample
    except Exception as error:  # torchvision, which it needs, raises this and that where it does not fit torch
        pytest.skip(f'mmpretrain cannot be imported: {error}')
    cfg = _config(path)
    init_scope(cfg)
    drop_pretrained(cfg)
    model = MODELS.build(cfg.model)
    _check_sparsity(path, cfg, model.backbone)
    assert _hooks(path) == tuple(hook['type'].removeprefix('sparsevit_mm.') for hook in cfg.custom_hooks)
    _check_options_of_hooks(path, cfg)
    _check_types(cfg)
    images, samples = torch.rand(2, 3, 224, 224), [DataSample().set_gt_label(i) for i in range(2)]
    losses = model(images, samples, mode='loss')
    assert torch.isfinite(losses['loss'])
    losses['loss'].backward()
    with torch.no_grad(), model.eval().backbone.record_selections() as records:
        assert model(images, mode='predict')[0].pred_score.shape == (1000,)
    sparsity = dict(zip(model.backbone.sites, model.backbone.sparsity))
    assert {(record.site, record.kept.shape[1]) for record in records} == {
        (site, keep_count(196, value)) for site, value in sparsity.items()
    }


@pytest.mark.parametrize('path', CONFIGS, ids=_id)
def test_header_says_what_it_is(path: Path) -> None:
    header = path.read_text().partition('_base_')[0]
    for word in ('Step', 'Paper:', 'Command:', 'Expect:'):
        assert word in header
