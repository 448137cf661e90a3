from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import DATASETS, HOOKS, LOOPS, METRICS, MODELS, OPTIM_WRAPPERS, TRANSFORMS, Registry

from sparsevit_mm.apis import drop_pretrained, init_scope, load_config
from sparsevit_mm.search.session import SearchOptions

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('mmdet3d')

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = ('demo', 'sparsevit')
CONFIGS = sorted(path for family in FAMILIES for path in (ROOT / 'configs' / family).glob('*.py'))
STEPS = ('dense', 'adapt', 'search')  # any other suffix is a found sparsity
# Data that is not pretrained from the net, so that it trains offline.
OFFLINE = ('demo-448x448', 'coco-mini', 'camvid', 'kitti-mini')


def _step(path: Path) -> str:
    return path.stem.rpartition('_sparse-')[2] if '_sparse-' in path.stem else 'dense'


def _stem(path: Path) -> str:
    return path.stem.partition('_sparse-')[0]


def _id(path: Path) -> str:
    return f'{path.parent.name}/{path.stem}'


def test_every_stem_has_four_steps() -> None:
    steps: dict[tuple[Path, str], set[str]] = {}
    for path in CONFIGS:
        steps.setdefault((path.parent, _stem(path)), set()).add(_step(path))
    assert len(steps) == 11
    for (_, stem), present in steps.items():
        assert set(STEPS) <= present and present - set(STEPS), f'{stem} has only {sorted(present)}'


@pytest.mark.parametrize('path', CONFIGS, ids=_id)
def test_config_builds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr('mmengine.runner.checkpoint.load_from_http', lambda *_, **__: pytest.fail('downloads'))
    cfg = load_config(path)
    assert 'sparsevit_mm' in cfg.custom_imports.imports
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
    assert type(backbone).__name__ == 'SparseSwin'
    claimed = cfg.model.backbone.get('sparsity')
    if _step(path) in STEPS:
        assert claimed is None and not any(backbone.sparsity)
    else:
        assert backbone.sparsity == tuple(claimed) and any(claimed)
        assert backbone.sparsity in backbone.sparsity_space(), 'not what a search could have found'


def _check_step(path: Path, cfg: Config) -> None:
    step = _step(path)
    hooks = [hook['type'] for hook in cfg.get('custom_hooks') or ()]
    assert hooks == (['sparsevit_mm.SparsityAdaptationHook'] if step == 'adapt' else [])
    loop = dict(cfg.test_cfg)
    assert (loop.pop('type') == 'sparsevit_mm.SparsitySearchLoop') == (step == 'search')
    if step == 'search':
        loop.pop('search_images', None)
        loop.pop('_scope_', None)
        assert SearchOptions(**loop).budget is not None
    start = cfg.get('load_from')
    if step not in ('dense', 'search') and not start.startswith('http'):
        before = _stem(path) if step == 'adapt' else f'{_stem(path)}_sparse-adapt'
        assert start.rpartition('/')[0] == f'work_dirs/{before}'
        last = load_config(path.with_name(f'{before}.py')).train_cfg
        name = f'epoch_{last.max_epochs}' if 'max_epochs' in last else f'iter_{last.max_iters}'
        assert start.endswith(f'/{name}.pth'), 'the last checkpoint of the step before'


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


@pytest.mark.parametrize('path', CONFIGS, ids=_id)
def test_header_says_what_it_is(path: Path) -> None:
    header = path.read_text().partition('_base_')[0]
    for word in ('Step', 'Paper:', 'Command:', 'Expect:'):
        assert word in header
