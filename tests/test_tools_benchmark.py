import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from scripts import load_tool
from tiny_segmentation import make_project

from sparsevit_mm.apis import build_model, load_config
from sparsevit_mm.cli import run_tool
from sparsevit_mm.cost import Environment, LatencyRecord
from sparsevit_mm.cost.images import load_batches
from sparsevit_mm.files import list_images

TOOL = Path(__file__).parents[1] / 'tools' / 'benchmark.py'
CONFIG = """
default_scope = 'mmdet'
model = dict(backbone=dict(
    type='SwinTransformer', embed_dims=16, depths=[2, 2, 4, 2], num_heads=[1, 2, 4, 8]))
"""
QUICK = ['--shape', '48', '64', '--rounds', '2', '--min-round-time', '0']


@pytest.fixture(scope='module')
def main():
    return partial(run_tool, load_tool('benchmark').main)


@pytest.fixture
def config(tmp_path):
    pytest.importorskip('mmdet')
    path = tmp_path / 'tiny.py'
    path.write_text(CONFIG)
    return str(path)


def test_table_and_json(config, tmp_path):
    out = tmp_path / 'new' / 'figures.json'
    arguments = [config, '--sparsity', '0', '.6,0,.2,.4,.5', '--batch', '2', '--json', str(out), *QUICK]
    done = subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, cwd=TOOL.parents[1], check=False
    )
    assert done.returncode == 0, done.stderr
    for part in ('stock SwinTransformer', '0.6,0,0.2,0.4,0.5', 'batch 2', '48x64', 'speed-up', 'realised'):
        assert part in done.stdout
    values = json.loads(out.read_text())
    assert Environment.from_dict(values['environment']).batch == 2
    assert [row['sparsity'] for row in values['rows']] == [None, [0] * 5, [0.6, 0, 0.2, 0.4, 0.5]]
    assert LatencyRecord.from_dict(values['rows'][0]['latency']).runs == 2
    assert values['rows'][0]['macs'] == values['rows'][1]['macs'] > values['rows'][2]['macs']


def test_without_stock_ours_comes_first(main, config, capsys):
    assert main([config, '--no-stock', '--dtype', 'bfloat16', '--threads', '1', *QUICK]) == 0
    shown = capsys.readouterr().out
    assert 'stock' not in shown and 'bfloat16' in shown and '1 thread,' in shown


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--sparsity', 'much'], "sparsity 'much' is neither a number"),
        (['--sparsity', '.1,.2'], '5 sites'),
        (['--sparsity', '1'], r'must lie in [0, 1)'),
        (['--shape', '0', '8'], 'shape must be two positive integers'),
        (['--batch', '0'], 'batch must be a positive integer'),
        (['--rounds', '0'], 'rounds must be a positive integer'),
        (['--device', 'tpu'], "device must be 'cpu'"),
        (['--whole-model'], 'cannot be built'),
        (['--json', '/proc/nowhere/figures.json'], '/proc/nowhere'),
        (['--assert-budget', '0'], 'must be a positive amount. Write --assert-budget 30 for 30 ms'),
        (['--assert-budget', '-3'], 'must be a positive amount'),
        (['--assert-budget', '0%'], 'must lie in (0, 1]'),
        (['--assert-budget', '120%'], 'must lie in (0, 1]'),
        (['--assert-budget', 'soon'], "budget 'soon' cannot be read"),
        (['--assert-budget', ''], "budget '' cannot be read"),
    ],
)
def test_mistakes_are_said(main, config, capsys, arguments, message):
    assert main([config, *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith('error: ') and message in shown.err and shown.out == ''


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--suite', 'coco'], "no suite 'coco': --suite takes one of swin-coco"),
        (['CONFIG', '--suite', 'vit'], '--suite vit brings its own cases: leave out CONFIG'),
        (['--suite', 'vit', '--shape', '64', '64', '--train'], 'leave out --shape, --train'),
        (['--suite', 'vit', '--mode', 'graphs'], "mode 'graphs' captures CUDA graphs, but the device is cpu"),
        (['--suite', 'vit', '--case', 'swin'], '--case swin is part of the name of no case'),
        (['--suite', 'vit', '--rounds', '0'], 'rounds must be a positive integer'),
        (['--suite', 'vit', '--out', '/proc/nowhere'], '/proc/nowhere'),
        (['CONFIG', '--case', 'x', '--again'], '--case, --again is for suites'),
        (['CONFIG', '--batch', '1', '4'], '--batch 1 4 is more than one: only --suite takes several'),
        (['CONFIG', '--mode', 'graphs'], "mode 'graphs' captures CUDA graphs, but the device is cpu"),
        (['CONFIG', '--train', '--roof'], '--roof is of a forward: leave it out with --train'),
        ([], 'give a CONFIG to time, or --suite with one of'),
    ],
)
def test_mistakes_with_suites_are_said(main, config, capsys, arguments, message):
    assert main([config if word == 'CONFIG' else word for word in arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith('error: ') and message in shown.err


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
def test_a_suite_on_a_device_that_is_not_there(main, capsys):
    assert main(['--suite', 'vit', '--device', 'cuda']) == 2
    assert 'sees no CUDA device here' in capsys.readouterr().err


def test_cases_of_a_suite_are_listed(main, tmp_path, capsys):
    assert main(['--suite', 'swin-coco', '--list', '--batch', '1', '--case', 'swin-t_672', '--out', str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith('swin-t_672x672_b1_float32_eager: mmdet::') for line in lines)
    assert not list(tmp_path.iterdir())


def test_missing_config_is_said(main, capsys):
    assert main(['no_such_config.py']) == 2
    assert 'no_such_config.py' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('budget', 'status', 'said'),
    [('1e6', 0, 'Within budget: '), ('1000s', 0, 'Within budget: '), ('0.00001', 1, 'OVER BUDGET: ')],
)
def test_a_budget_decides_the_exit_status(main, config, tmp_path, capsys, budget, status, said):
    out = tmp_path / 'figures.json'
    arguments = [config, '--no-stock', '--sparsity', '0', '.5', '--assert-budget', budget, '--json', str(out), *QUICK]
    assert main(arguments) == status
    shown = capsys.readouterr().out
    assert shown.count(said) == 1 and f'{said}SparseSwin at sparsity 0.5 (tiny) takes' in shown
    (verdict,) = json.loads(out.read_text())['budget']
    assert verdict['kept'] is (status == 0) and verdict['sparsity'] == [0.5] * 5 and verdict['share_of_dense'] is None


def test_a_fraction_is_of_ours_at_sparsity_0_which_is_timed_too(main, config, tmp_path, capsys):
    out = tmp_path / 'figures.json'
    arguments = [config, '--sparsity', '.5', '--assert-budget', '0.001%', '--json', str(out), *QUICK]
    assert main(arguments) == 1
    shown = capsys.readouterr().out
    assert 'SparseSwin at sparsity 0.5 (tiny) takes' in shown and '(1e-05 of dense)' in shown
    values = json.loads(out.read_text())
    assert [row['sparsity'] for row in values['rows']] == [None, [0] * 5, [0.5] * 5]
    (verdict,) = values['budget']
    assert verdict['limit'] == pytest.approx(1e-5 * values['rows'][1]['latency']['median'])


def test_the_own_sparsity_of_a_config_is_held_to_the_budget_also_if_dense(main, config, capsys):
    assert main([config, '--no-stock', '--assert-budget', '1000s', *QUICK]) == 0
    assert 'Within budget: SparseSwin at sparsity 0 (tiny)' in capsys.readouterr().out


def test_without_a_budget_there_is_none(main, config, tmp_path, capsys):
    out = tmp_path / 'figures.json'
    assert main([config, '--no-stock', '--json', str(out), *QUICK]) == 0
    assert 'Within budget' not in capsys.readouterr().out and 'budget' not in json.loads(out.read_text())


@pytest.fixture
def adaptive(tmp_path):
    """A tiny segmentor whose images have counts of their own, a checkpoint of it, and its images."""
    pytest.importorskip('mmseg')
    make_project(tmp_path)
    path = tmp_path / 'adaptive.py'
    path.write_text(
        "_base_ = 'stock.py'\n"
        "custom_imports = dict(imports=['sparsevit_mm'], allow_failed_imports=False)\n"
        'model = dict(backbone=dict(type="sparsevit_mm.SparseSwin", sparsity=0.5, counts="adaptive",\n'
        '    selector=dict(type="sparsevit_mm.MultiHeadSelector", draw="gumbel")))\n'
    )
    model = build_model(load_config(path))
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, tmp_path / 'adaptive.pth')
    return str(path), str(tmp_path / 'adaptive.pth'), str(tmp_path / 'data' / 'val' / 'images')


def test_counts_of_images_are_timed_on_images(main, adaptive, tmp_path, capsys):
    config, checkpoint, images = adaptive
    out = tmp_path / 'figures.json'
    trained = ['--checkpoint', checkpoint, '--images', images, '--max-images', '3']
    assert main([config, '--sparsity', '0', '0.5', *trained, '--batch', '2', '--json', str(out), *QUICK]) == 0
    values = json.loads(out.read_text())
    assert 'Run were 2 images' in ' '.join(values['notes'])  # what is left over from whole batches is not run
    stock, dense, sparse = values['rows']
    assert stock['kept'] == {} and set(dense['kept'].values()) == {1.0}
    backbone = build_model(load_config(config), checkpoint).backbone
    assert list(sparse['kept']) == list(backbone.sites) and all(0 < share <= 1 for share in sparse['kept'].values())
    (batch,) = load_batches(list_images([images])[:2], (48, 64), 2, load_config(config).model.data_preprocessor)
    with torch.no_grad(), backbone.record_selections() as records:
        backbone(batch)
    first = [record for record in records if record.site == backbone.sites[0]]
    shares = torch.cat([record.counts / record.num_units for record in first])
    assert sparse['kept'][backbone.sites[0]] == pytest.approx(shares.mean().item())


def test_counts_of_images_need_images_and_weights(main, adaptive, tmp_path, capsys):
    config, checkpoint, images = adaptive
    for given in ([], ['--images', images], ['--checkpoint', checkpoint]):
        assert main([config, *given, *QUICK]) == 2
        assert "has counts='adaptive'" in capsys.readouterr().err
    trained = [config, '--checkpoint', checkpoint]
    assert main([*trained, '--images', str(tmp_path / 'none'), *QUICK]) == 2
    assert f'there is no file or folder {tmp_path / "none"}' in capsys.readouterr().err
    assert main([*trained, '--images', images, '--max-images', '1', '--batch', '2', *QUICK]) == 2
    assert '1 are too few for a batch of 2' in capsys.readouterr().err
    (tmp_path / 'broken.png').write_text('no image')
    assert main([*trained, '--images', str(tmp_path / 'broken.png'), *QUICK]) == 2
    assert 'broken.png cannot be read as an image' in capsys.readouterr().err
