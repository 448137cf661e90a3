from functools import partial

import pytest
import torch
from torch import nn

from sparsevit_mm.cost.modes import check_modes, in_mode, many_compilations

CPU, CUDA = torch.device('cpu'), torch.device('cuda')


def test_modes_are_known_and_each_is_there_once():
    assert check_modes(['compiled', 'eager', 'compiled'], CPU) == ('compiled', 'eager')
    assert check_modes(['graphs'], CUDA) == ('graphs',)
    for wrong in ([], ['jit'], ['eager', 'jit']):
        with pytest.raises(ValueError, match='mode must be one or more of eager, compiled, graphs, got'):
            check_modes(wrong, CPU)
    with pytest.raises(ValueError, match="'graphs' captures CUDA graphs, but the device is cpu: use --device cuda"):
        check_modes(['eager', 'graphs'], CPU)


class Power(nn.Module):
    """Something that is compiled anew for each exponent."""

    exponent = 1

    def forward(self, x):
        return x**self.exponent


class Broken(nn.Module):
    """Something that is no single graph."""

    def forward(self, x):
        torch._dynamo.graph_break()
        return x + 1


@pytest.fixture
def traced(monkeypatch):
    """Compilation without code generation, which takes its time; the graphs that were made."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(torch, 'compile', partial(torch.compile, backend=backend))
    return graphs


def test_ours_must_be_one_graph_and_stock_need_not(traced):
    x = torch.ones(3)
    module = Power()
    assert in_mode(module, 'eager', ours=True) is module
    assert torch.equal(in_mode(module, 'compiled', ours=True)(x), x) and len(traced) == 1
    assert torch.equal(in_mode(Broken(), 'compiled', ours=False)(x), x + 1)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        in_mode(Broken(), 'compiled', ours=True)(x)


def test_as_many_compilations_as_there_are_rows(traced):
    module, x = Power(), torch.full((2,), 2.0)
    compiled = in_mode(module, 'compiled', ours=True)
    with many_compilations():
        for _ in range(2):
            for module.exponent in range(1, 13):
                assert compiled(x).tolist() == [2.0**module.exponent] * 2
    assert len(traced) == 12  # the second time they are there


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='torch sees no CUDA device')
def test_graphs_compute_the_same():
    pytest.importorskip('sparsevit_mm.graphs')
    layer = nn.Conv2d(3, 4, 3).cuda().eval()
    images = torch.randn(1, 3, 8, 8, device='cuda')
    with torch.no_grad():
        torch.testing.assert_close(in_mode(layer, 'graphs', ours=False)(images), layer(images))
