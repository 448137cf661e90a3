"""Every backbone as a graph that ONNX Runtime runs, against the backbone itself."""

import copy

import numpy as np
import pytest
import torch
from small_backbones import FAMILIES as SMALL
from small_backbones import TWO_STAGES
from torch import nn

from sparsevit_mm.deploy import onnx_export
from sparsevit_mm.deploy.onnx_check import TOLERANCE, GraphCheck, check_graph
from sparsevit_mm.deploy.onnx_export import OPSETS, drop_outputs, make_onnx, save_onnx
from sparsevit_mm.deploy.onnx_run import OnnxBackbone, OnnxSession
from sparsevit_mm.deploy.parts import ModelPart
from sparsevit_mm.models import SparseBackbone, SparseSwin

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxscript')
pytest.importorskip('onnxruntime')

# Swin with patch merging too.
FAMILIES = SMALL | {
    'swin': (SparseSwin, TWO_STAGES),
    'swin-package': (SparseSwin, TWO_STAGES | dict(bypass='package')),
}
SIZE = (72, 60)  # no multiple of windows, so that there is padding


def build(family: str = 'swin', sparsity: float = 0.5, **options) -> SparseBackbone:
    cls, arguments = FAMILIES[family]
    model = cls(**{**arguments, **options}, sparsity=sparsity)
    model.init_weights()
    with torch.no_grad():
        for parameter in model.parameters():  # distinct scores, which rounding does not reorder
            parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()


def exported(model: nn.Module, images: torch.Tensor, **options) -> tuple[ModelPart, OnnxSession]:
    part = ModelPart(model, selections=True)
    return part, OnnxSession(make_onnx(part, images, part.output_names(images), **options))


@pytest.fixture(scope='module')
def swin() -> tuple[ModelPart, 'onnx.ModelProto', torch.Tensor]:
    """One that tests copy before they change it, its graph and the images of that."""
    torch.manual_seed(0)
    images = torch.randn(1, 3, *SIZE)
    part = ModelPart(build(), selections=True)
    return part, make_onnx(part, images, part.output_names(images), metadata={'sparsevit_mm.note': 'text'}), images


@pytest.mark.parametrize('family', FAMILIES)
def test_graph_computes_what_the_backbone_computes(family):
    """Of any number of images."""
    part, session = exported(build(family), torch.randn(1, 3, *SIZE), dynamic_batch=True)
    assert session.shape == ('batch', 3, *SIZE)
    found = check_graph(part, session, [torch.randn(batch, 3, *SIZE) for batch in (1, 2, 5)])
    assert found.passed and found.images == 8
    assert found.kept and max(found.errors.values()) < 1e-4
    assert 'the same units are kept' in found.sentence()


@pytest.mark.parametrize('opset', [OPSETS[0], OPSETS[-1]])
def test_first_and_last_opset(opset):
    images = torch.randn(1, 3, *SIZE)
    part = ModelPart(build())
    graph = make_onnx(part, images, part.output_names(images), opset=opset)
    assert [entry.version for entry in graph.opset_import if entry.domain in ('', 'ai.onnx')] == [opset]
    onnx.checker.check_model(graph, full_check=True)
    assert check_graph(part, OnnxSession(graph), [images]).passed


def test_work_shrinks_with_the_sparsity(swin):
    _, sparse, images = swin
    dense = ModelPart(build(sparsity=0))

    def rows_of_products(graph: 'onnx.ModelProto') -> int:
        graph = onnx.shape_inference.infer_shapes(graph)
        shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.graph.value_info}
        products = [node for node in graph.graph.node if node.op_type in ('MatMul', 'Gemm')]
        assert all(node.output[0] in shapes for node in products)
        return sum(int(np.prod(shapes[node.output[0]])) for node in products)

    assert rows_of_products(sparse) < 0.7 * rows_of_products(make_onnx(dense, images, dense.output_names(images)))


@pytest.mark.parametrize('family', ['swin', 'vit', 'convnext'])
def test_equal_scores_go_to_the_lower_index(family):
    """In an image of one colour all inner windows and most tokens look alike, to the first site to the last bit."""
    images = torch.full((1, 3, 64, 64), 0.5)
    model = build(family, selector=dict(type='sparsevit_mm.MagnitudeSelector'))
    part, session = exported(model, images)
    kept = check_graph(part, session, [images]).kept
    assert next(iter(kept.values())) == 1


def test_nothing_is_left_out_at_sparsity_zero():
    images = torch.randn(1, 3, *SIZE)
    part, session = exported(build(sparsity=0), images)
    assert session.output_names == ['map0', 'map1']
    assert 'nothing is left out' in check_graph(part, session, [images]).sentence()


def test_outputs_can_be_dropped_and_files_are_read_back(swin, tmp_path):
    part, graph, images = swin
    names, graph = part.output_names(images), copy.deepcopy(graph)
    drop_outputs(graph, [name for name in names if name.startswith('kept.')])
    save_onnx(graph, tmp_path / 'new' / 'model.onnx')
    session = OnnxSession(tmp_path / 'new' / 'model.onnx')
    assert session.output_names == ['map0', 'map1']
    for expected, found in zip(part(images), session(images)):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert [(entry.key, entry.value) for entry in graph.metadata_props] == [('sparsevit_mm.note', 'text')]
    assert [file.name for file in (tmp_path / 'new').iterdir()] == ['model.onnx']


def test_large_weights_go_beside_the_graph(swin, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, 'MOST_BYTES', 1000)
    part, graph, images = swin
    save_onnx(copy.deepcopy(graph), tmp_path / 'model.onnx')
    assert sorted(file.name for file in tmp_path.iterdir()) == ['model.onnx', 'model.onnx.data']
    assert check_graph(part, OnnxSession(tmp_path / 'model.onnx'), [images]).passed


def test_the_model_comes_back_as_it_was():
    model = build().train()
    model.stages[0].eval()
    modes = {name: module.training for name, module in model.named_modules()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.randn(1, 3, *SIZE)
    make_onnx(model, images, ['map0', 'map1'])
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    with torch.no_grad():
        assert all(torch.isfinite(found).all() for found in model(images))
    sum(found.sum() for found in model.train()(images)).backward()


def test_a_graph_of_something_else_does_not_pass(swin):
    part, graph, images = swin
    part, session = copy.deepcopy(part), OnnxSession(graph)
    with torch.no_grad():
        part.backbone.norm0.bias += 0.01
    found = check_graph(part, session, [images])
    assert not found.passed and found.same_units and found.errors['map0'] == pytest.approx(0.01, rel=1e-2)
    with torch.no_grad():
        part.backbone.patch_embed.projection.weight.normal_()
    found = check_graph(part, session, [images])
    assert not found.same_units and 'other units are kept' in found.sentence()


@pytest.mark.parametrize(
    ('errors', 'kept', 'passed'),
    [({'map0': TOLERANCE}, {}, True), ({'map0': 2 * TOLERANCE}, {}, False), ({'map0': 0.0}, {'kept.a': 0.99}, False)],
)
def test_what_passes(errors, kept, passed):
    assert GraphCheck(1, errors, kept).passed is passed


def test_a_backbone_run_by_onnx_runtime():
    model, images = build(), torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        expected = model(images)
    for want, found in zip(expected, OnnxBackbone(model)(images)):
        torch.testing.assert_close(found, want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('opset', [0, OPSETS[0] - 1, OPSETS[-1] + 1])
def test_other_opsets_are_refused(opset):
    with pytest.raises(ValueError, match=f'opset must be from 18 to 23, .*, got {opset}'):
        make_onnx(build(), torch.randn(1, 3, *SIZE), ['map0', 'map1'], opset=opset)


def test_images_of_another_size_are_refused(swin):
    session = OnnxSession(swin[1])
    with pytest.raises(ValueError, match='takes images of shape 1x3x72x60, got 1x3x64x64'):
        session(torch.randn(1, 3, 64, 64))


def test_a_file_that_is_no_graph_is_refused(tmp_path):
    (tmp_path / 'model.onnx').write_bytes(b'nothing')
    with pytest.raises(ValueError, match='ONNX Runtime cannot load the graph'):
        OnnxSession(tmp_path / 'model.onnx')


def test_what_cannot_be_exported_says_so():
    class Asks(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(ValueError, match=r'Asks cannot be exported to ONNX: \w'):
        make_onnx(Asks(), torch.randn(1, 3, 8, 8), ['y'])
