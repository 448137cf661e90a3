"""tools/export_onnx.py from the command line to a file that ONNX Runtime runs, with small models of the packages."""

from functools import partial
from pathlib import Path

import pytest
import torch
from scripts import load_tool
from test_tools_visualize import CONFIGS, SEGMENTOR

from sparsevit_mm.apis import build_model, load_config, sparsify_config
from sparsevit_mm.cli import run_tool
from sparsevit_mm.deploy.onnx_run import OnnxSession

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxscript')
pytest.importorskip('onnxruntime')

SPARSITY = '.5,0,0,0'


@pytest.fixture(scope='module')
def main():
    return partial(run_tool, load_tool('export_onnx').main)


@pytest.fixture
def config(tmp_path: Path) -> str:
    pytest.importorskip('mmseg')
    (tmp_path / 'config.py').write_text(SEGMENTOR)
    return str(tmp_path / 'config.py')


def notes(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_a_segmentor_gives_class_scores(main, config: str, tmp_path: Path, capsys) -> None:
    cfg = sparsify_config(load_config(config), (0.5, 0, 0, 0))
    model = build_model(cfg)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    weights, out = tmp_path / 'weights.pth', tmp_path / 'out' / 'model.onnx'
    torch.save(dict(state_dict=model.state_dict()), weights)
    status = main([config, str(weights), '--sparsity', SPARSITY, '--out', str(out), '--shape', '96', '160'])
    said = capsys.readouterr()
    assert status == 0, said.err
    assert 'RANDOM' not in said.out and 'Checked on 4 images' in said.out and 'same units are kept' in said.out
    session = OnnxSession(out)
    assert session.output_names == ['logits'] and session.shape == (1, 3, 96, 160)
    images = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        meta = dict(img_shape=torch.Size((96, 160)))
        expected = model.encode_decode(images, [meta])
    torch.testing.assert_close(session(images)[0], expected, atol=1e-3, rtol=1e-3)
    found = notes(out)
    assert found['sparsevit_mm.sparsity'] == '[0.5, 0.0, 0.0, 0.0]' and int(found['sparsevit_mm.macs']) > 0
    assert '"wall"' in found['sparsevit_mm.classes'] and found['sparsevit_mm.channels'] == '"RGB"'


@pytest.mark.parametrize('package', ['mmdet', 'mmdet3d'])
def test_detectors_give_the_maps_of_their_neck(package: str, main, tmp_path: Path, capsys) -> None:
    pytest.importorskip(package)
    (tmp_path / 'config.py').write_text(CONFIGS[package])
    sparsity = [] if package == 'mmdet3d' else ['--sparsity', SPARSITY]
    arguments = [str(tmp_path / 'config.py'), 'none', *sparsity, '--shape', '64', '96', '--dynamic-batch']
    status = main([*arguments, '--selections', '--out', str(tmp_path / 'model.onnx')])
    said = capsys.readouterr()
    assert status == 0, said.err
    assert 'RANDOM WEIGHTS' in said.out
    session = OnnxSession(tmp_path / 'model.onnx')
    blocks = [f'kept.stage1.pair1.block{block}' for block in range(2)]
    number = 4 if package == 'mmdet3d' else 5
    assert session.output_names == [*(f'map{i}' for i in range(number)), *blocks]
    *maps, kept, _ = session(torch.randn(3, 3, 64, 96))
    assert [tuple(value.shape[:2]) for value in maps] == [(3, 256)] * number and tuple(kept.shape) == (3, 12)


def test_backbone_alone_at_the_size_of_the_config(main, config: str, tmp_path: Path, capsys) -> None:
    out = tmp_path / 'model.onnx'
    options = ['--backbone-only', '--sparsity', '0.6', '--opset', '20', '--out', str(out)]
    assert main([config, 'none', *options, '--cfg-options', 'model.data_preprocessor.size=(64,96)']) == 0
    session = OnnxSession(out)
    assert session.shape == (1, 3, 64, 96) and session.output_names == ['map0', 'map1', 'map2', 'map3']


def test_a_graph_that_differs_is_not_written(main, config: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr('sparsevit_mm.deploy.onnx_check.TOLERANCE', -1.0)
    arguments = [config, 'none', '--sparsity', '.5', '--out', str(tmp_path / 'model.onnx'), '--shape', '64', '64']
    assert main([*arguments, '--backbone-only']) == 1
    assert 'model.onnx is not written' in capsys.readouterr().out and not (tmp_path / 'model.onnx').exists()
    assert main([*arguments, '--backbone-only', '--no-check']) == 0
    assert (tmp_path / 'model.onnx').exists()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--opset', '12'], 'opset must be from 18 to 23'),
        (['--sparsity', '1.5'], '1.5'),
        (['--shape', '0', '64'], 'shape'),
        (['--threads', '0'], 'threads'),
        (['--images', 'missing'], 'images: there is no file or folder missing'),
        (['--images', __file__], 'cannot be read as an image'),
        (['--out', str(Path(__file__).parent)], 'is a folder: name the file'),
        (['--cfg-options', 'model.backbone.counts=adaptive'], "counts='adaptive'"),
    ],
)
def test_mistakes(options: list[str], message: str, main, config: str, tmp_path: Path, capsys) -> None:
    given = {'--sparsity': ['0.5'], '--shape': ['64', '64'], '--out': [str(tmp_path / 'model.onnx')]}
    given[options[0]] = options[1:]
    if options[0] == '--cfg-options':
        given['--cfg-options'] += [
            'model.backbone.selector.type=sparsevit_mm.MultiHeadSelector', 'model.backbone.selector.draw=batch'
        ]  # fmt: skip
    status = main([config, 'none', *(word for name, values in given.items() for word in (name, *values))])
    said = capsys.readouterr().err
    assert status == 2 and message in said and said.startswith('error: ') and len(said.splitlines()) == 1
    assert not (tmp_path / 'model.onnx').exists()


def test_dense_config_without_sparsity(main, config: str, tmp_path: Path, capsys) -> None:
    assert main([config, 'none', '--out', str(tmp_path / 'model.onnx')]) == 2
    assert 'give --sparsity' in capsys.readouterr().err


def test_a_missing_package_is_named_with_its_extra(main, config: str, tmp_path: Path, capsys, monkeypatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *a: None if name == 'onnxscript' else find(name, *a))
    options = ['--sparsity', '0.5', '--shape', '64', '64', '--backbone-only', '--out', str(tmp_path / 'model.onnx')]
    assert main([config, 'none', *options]) == 2
    assert 'onnxscript is needed and not installed: pip install "sparsevit_mm[export]"' in capsys.readouterr().err


def test_size_of_images_by_the_config() -> None:
    from mmengine.config import Config

    from sparsevit_mm.pipelines import input_shape

    scale = dict(type='Resize', scale=(1333, 800), keep_ratio=True)
    tested = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile'), scale]))
    model = dict(data_preprocessor=dict(pad_size_divisor=32))
    assert input_shape(Config(dict(model=model, test_dataloader=tested))) == (800, 1344)
    assert input_shape(Config(dict(model=dict(data_preprocessor=dict(size=(512, 256)))))) == (512, 256)
    with pytest.raises(ValueError, match='give --shape HEIGHT WIDTH'):
        input_shape(Config(dict(model=model, test_pipeline=[dict(type='LoadImageFromFile')])))
