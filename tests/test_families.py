"""Every backbone family through everything above the backbone: adaptation, training, search, cost, pictures."""

import csv
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from tiny_segmentation import make_project

from sparsevit_mm.apis import build_model, load_config
from sparsevit_mm.cli import run_tool
from sparsevit_mm.cost import count_macs, measure_latency, measure_macs
from sparsevit_mm.models.checkpoints import read_checkpoint

ROOT = Path(__file__).parents[1]
pytest.importorskip('mmseg')

PREDICTOR = "dict(type='sparsevit_mm.PredictorSelector')"
# Each in the place of the stock Swin of the tiny project, with the sites that it then has. The first word of a name is
# the class.
FAMILIES = {
    'SparseSwin': (
        'embed_dims=16, depths=(2, 4), num_heads=(2, 4), strides=(4, 2), out_indices=(0, 1), window_size=4, '
        f'selector={PREDICTOR}',
        ('stage1.pair1', 'stage2.pair1', 'stage2.pair2'),
    ),
    'SparseSwin with packages': (
        'embed_dims=16, depths=(2, 4), num_heads=(2, 4), strides=(4, 2), out_indices=(0, 1), window_size=4, '
        f'bypass="package", selector={PREDICTOR}',
        ('stage1.pair1', 'stage2.pair1', 'stage2.pair2'),
    ),
    'PrunedViT with packages': (
        'img_size=64, patch_size=8, embed_dims=32, num_layers=4, num_heads=4, out_indices=(1, 3), site_blocks=(1, 2), '
        'bypass="package", selector=dict(type="sparsevit_mm.MultiHeadSelector", noise=0)',
        ('block1', 'block2'),
    ),
    'PrunedPiT': (
        'arch=dict(head_dims=(8, 8), num_heads=(2, 4), depths=(2, 3), patch_size=8, stride=8), img_size=64, '
        f'out_indices=(0, 1), selector={PREDICTOR}',
        ('stage1.block1', 'stage2.block1'),
    ),
    'DynamicSwin': (
        'embed_dims=16, depths=(2, 4), num_heads=(2, 4), strides=(4, 2), out_indices=(0, 1), window_size=4, '
        'site_stage=1, site_blocks=(1, 2)',
        ('stage2.block1', 'stage2.block2'),
    ),
    'DynamicConvNeXt': (
        'arch=dict(depths=(1, 3), channels=(16, 32)), out_indices=(0, 1), site_stage=1, site_blocks=(1, 2)',
        ('stage2.block1', 'stage2.block2'),
    ),
    'PrunedViT': (
        'img_size=64, patch_size=8, embed_dims=32, num_layers=4, num_heads=4, out_indices=(1, 3), site_blocks=(1, 2)',
        ('block1', 'block2'),
    ),
}


@pytest.fixture(scope='module', params=sorted(FAMILIES))
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """The family's name, its config and a checkpoint with random weights."""
    folder = tmp_path_factory.mktemp(request.param)
    stock, _ = make_project(folder)
    arguments, _ = FAMILIES[request.param]
    config = folder / 'sparse.py'
    config.write_text(
        "_base_ = 'stock.py'\n"
        "custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)\n"
        f"model = dict(backbone=dict(_delete_=True, type='sparsevit_mm.{request.param.split()[0]}', {arguments}))\n"
    )
    assert stock.exists()
    checkpoint = folder / 'sparse.pth'
    torch.manual_seed(0)
    model = build_model(load_config(config))
    for parameter in model.parameters():  # fresh norms and selectors give all units nearly one score
        parameter.data += 0.1 * torch.randn_like(parameter)
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, checkpoint)
    return request.param, config, checkpoint


def tool(name: str, *arguments: object) -> int:
    spec = importlib.util.spec_from_file_location(f'{name}_tool', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return run_tool(module.main, [str(argument) for argument in arguments])


def test_sites_and_space(project):
    family, config, _ = project
    backbone = build_model(load_config(config)).backbone
    assert backbone.sites == FAMILIES[family][1]
    space = backbone.sparsity_space((0.0, 0.3, 0.6))
    for sparsity in space:
        backbone.sparsity = sparsity
        assert backbone.sparsity == sparsity


def test_macs_and_latency(project):
    _, config, checkpoint = project
    backbone = build_model(load_config(config), checkpoint).backbone
    counts = []
    for sparsity in (0.0, 0.3, 0.8):
        backbone.sparsity = sparsity
        counts.append(count_macs(backbone, (64, 96)))
        assert measure_macs(backbone, (64, 96)) == pytest.approx(counts[-1], rel=0.01)
    assert counts[0] > counts[2] and counts[1] > counts[2]
    dense, sparse = measure_latency(backbone, (64, 96), sparsities=[0.0, 0.8], rounds=2)
    assert dense.median > 0 and sparse.median > 0 and backbone.sparsity[0] == 0.8


def test_training_with_adaptation_and_losses_then_testing(project, tmp_path):
    """Three steps at drawn sparsities with the ratio loss and distillation from the own dense weights."""
    family, config, checkpoint = project
    work_dir, child = tmp_path / 'work', config.parent / 'adapt.py'
    child.write_text(
        "_base_ = 'sparse.py'\n"
        f"load_from = '{checkpoint}'\n"
        'train_cfg = dict(max_iters=3, val_interval=3)\n'
        "default_hooks = dict(logger=dict(type='LoggerHook', interval=1), checkpoint=dict(type='CheckpointHook', "
        'by_epoch=False, interval=3))\n'
        'custom_hooks = [\n'
        "    dict(type='sparsevit_mm.SparsityAdaptationHook', choices=(0.3, 0.5, 0.7)),\n"
        "    dict(type='sparsevit_mm.KeepRatioLossHook', weight=2.0),\n"
        "    dict(type='sparsevit_mm.DistillationHook', teacher='self'),\n"
        "    dict(type='sparsevit_mm.SparsityLogHook', shape=(64, 64)),\n"
        ']\n'
    )
    assert tool('train', child, '--work-dir', work_dir) == 0
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    steps = [line for line in lines if 'loss' in line]
    assert len(steps) == 3
    for term in ('loss_keep_ratio', 'loss_distill_feature', 'loss_distill_logits'):
        assert all(0 < line[term] < 1e4 for line in steps), term
    assert any('mIoU' in line for line in lines), 'validated'
    saved = read_checkpoint(work_dir / 'iter_3.pth')['state_dict']
    before = read_checkpoint(checkpoint)['state_dict']
    assert saved.keys() == before.keys(), 'no teacher in the checkpoint'
    learned = [key for key in saved if 'selector' in key and key.endswith(('in_conv.1.weight', 'in_proj.weight'))]
    assert learned and all(not torch.equal(saved[key], before[key]) for key in learned), family
    options = ['--cfg-options', 'model.backbone.sparsity=0.5']
    assert tool('test', config, work_dir / 'iter_3.pth', '--work-dir', work_dir / 'test', *options) == 0


def test_search(project, tmp_path):
    family, config, checkpoint = project
    arguments = ['--budget-metric', 'macs', '--budget', '0.9', '--choices', '0', '0.3', '0.6', '--trials', '3']
    assert tool('search_sparsity', config, checkpoint, *arguments, '--work-dir', tmp_path, '--shape', 64, 64) == 0
    found = load_config(tmp_path / 'best_config.py').model.backbone
    assert found.type == f'sparsevit_mm.{family.split()[0]}' and max(found.sparsity) > 0
    with open(tmp_path / 'pareto.csv') as file:
        rows = list(csv.DictReader(file))
    assert rows and all(set(FAMILIES[family][1]) <= set(row) for row in rows)


def test_pictures(project, tmp_path):
    family, config, checkpoint = project
    image = next((config.parent / 'data' / 'val' / 'images').glob('*.png'))
    assert tool('visualize_sparsity', config, checkpoint, image, '--out', tmp_path, '--sparsity', '0.5') == 0
    drawn = {path.stem for path in next(tmp_path.iterdir()).iterdir()}
    assert drawn == {'overview', 'heat_map', *FAMILIES[family][1]}


def test_benchmark(project, tmp_path, capsys):
    family, config, _ = project
    quick = ['--shape', 64, 64, '--rounds', 2, '--min-round-time', 0, '--sparsity', '0', '0.5']
    out = tmp_path / 'figures.json'
    stock = family not in ('DynamicConvNeXt', 'PrunedPiT')  # the stock form of one is mmpretrain's, the other has none
    arguments = [*quick, '--json', out, *([] if stock else ['--no-stock'])]
    assert tool('benchmark', config, *arguments) == 0
    rows = json.loads(out.read_text())['rows']
    assert len(rows) == 2 + stock
    assert rows[-1]['macs'] < rows[-2]['macs']
    if stock:
        assert rows[0]['macs'] == pytest.approx(rows[1]['macs'], rel=0.01), 'the same work at sparsity 0'
    assert family.split()[0] in capsys.readouterr().out
