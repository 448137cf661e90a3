"""``torch.compile``: every backbone is one graph for a size and a sparsity, and computes what it computes without."""

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch._dynamo
from mmengine.model import BaseModel
from mmengine.runner import Runner
from small_backbones import FAMILIES, VIT
from torch._dynamo.testing import CompileCounterWithBackend

from sparsevit_mm.compat import compilation_limit_option, has_custom_operators
from sparsevit_mm.engine.hooks import SparsityAdaptationHook
from sparsevit_mm.models import PrunedViT, SparseBackbone
from sparsevit_mm.ops import linear

from .conftest import randomize

# With torch 2.1 nearly all of these fail. Releases between it and 2.4, which brought custom operators, were not tried.
pytestmark = pytest.mark.skipif(not has_custom_operators(), reason='torch is older than 2.4')

SELECTORS = ('Magnitude', 'Predictor', 'MultiHead', 'Random')
CASES = [(family, selector) for family in FAMILIES for selector in SELECTORS if family[:3] in ('swi', 'vit')]
CASES += [(family, selector) for family in ('dynamic-swin', 'convnext', 'pit') for selector in SELECTORS[1::2]]
CASES += [(family, 'ClassAttention') for family in ('vit', 'vit-package', 'pit')]


@pytest.fixture(autouse=True)
def forget_what_was_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def build(family: str, selector: str, **options) -> SparseBackbone:
    cls, arguments = FAMILIES[family]
    config = dict(type=f'sparsevit_mm.{selector}Selector')
    if selector in ('Predictor', 'MultiHead'):
        config.update(noise=0)  # decisions that do not depend on chance, in training too
    model = cls(**arguments, selector=config, **options)
    model.init_weights()
    return randomize(model).eval()  # distinct scores, which rounding does not reorder


def images(height: int = 72, width: int = 60, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, height, width)


def compiled(model: SparseBackbone, backend: str = 'eager', **options):
    counter = CompileCounterWithBackend(backend)
    return torch.compile(model, backend=counter, **options), counter


def assert_same(model, function, x, close: bool = True) -> None:
    for expected, found in zip(model(x), function(x)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('family', 'selector'), CASES)
def test_one_graph_for_each_sparsity(family, selector):
    model = build(family, selector)
    function, counter = compiled(model, fullgraph=True)
    graphs = []
    with torch.no_grad():
        for sparsity in (0.5, 0, 0.5, 0):
            model.sparsity = sparsity
            assert_same(model, function, images())
            assert_same(model, function, images())
            graphs.append(counter.frame_count)
    assert graphs == [1, 2, 2, 2]


@pytest.mark.parametrize('family', FAMILIES)
def test_what_backends_get_can_be_lowered(family):
    model = build(family, 'Random', sparsity=0.5)
    function, counter = compiled(model, 'aot_eager', fullgraph=True)
    with torch.no_grad():
        assert_same(model, function, images())
    with torch.inference_mode():
        function(images())
    assert counter.frame_count >= 1


class TestLinearLayers:
    """On a CPU where oneDNN is faster it computes them in inference, as it does without compiling."""

    @pytest.fixture(autouse=True)
    def fast_onednn(self, monkeypatch):
        monkeypatch.setattr(linear, '_faster_by_onednn', lambda dtype: True)

    @pytest.fixture
    def graphs(self) -> list[torch.fx.GraphModule]:
        return []

    @pytest.fixture
    def backend(self, graphs):
        def keep(graph: torch.fx.GraphModule, example_inputs: list[torch.Tensor]):
            graphs.append(graph)
            return graph

        return keep

    @staticmethod
    def products(graph: torch.fx.GraphModule) -> tuple[int, int]:
        """How many oneDNN is asked for by name, and how many torch."""
        targets = [str(node.target) for node in graph.graph.nodes if node.op == 'call_function']
        ours = sum('sparsevit_mm.linear' in target for target in targets)
        return ours, sum('built-in function linear' in target for target in targets)

    @pytest.mark.skipif(not linear._known_to_onednn(torch.float32), reason='torch has no oneDNN')
    @pytest.mark.parametrize('family', FAMILIES)
    def test_most_are_run_by_onednn(self, family, graphs, backend):
        model = build(family, 'Random', sparsity=0.5)
        function = torch.compile(model, backend=backend, fullgraph=True)
        with torch.no_grad():
            assert_same(model, function, images())
        ours, others = self.products(graphs[0])
        assert ours > 3 * others

    def test_few_where_it_is_slower(self, graphs, backend, monkeypatch):
        monkeypatch.setattr(linear, '_faster_by_onednn', lambda dtype: dtype != torch.float32)
        model = build('swin', 'Random', sparsity=0.5)
        function = torch.compile(model, backend=backend, fullgraph=True)
        with torch.no_grad():
            assert_same(model, function, images())
        ours, others = self.products(graphs[0])
        assert ours == 0 < others

    def test_gradients_and_other_devices_get_those_of_torch(self, graphs, backend):
        model = build('swin', 'Magnitude', sparsity=0.5)
        function = torch.compile(model, backend=backend, fullgraph=True)
        assert_same(model, function, images())
        assert self.products(graphs[0])[0] == 0 < self.products(graphs[0])[1]
        with torch.no_grad(), torch.device('meta'):
            torch.compile(copy.deepcopy(model).to('meta'), backend=backend)(images())
        assert all(self.products(graph)[0] == 0 for graph in graphs)

    def test_changed_weights_are_seen(self):
        model, x = build('swin', 'Magnitude', sparsity=0.5), images()
        function, counter = compiled(model, 'aot_eager', fullgraph=True)
        with torch.no_grad():
            assert_same(model, function, x)
            before = [feature.clone() for feature in function(x)]
            for parameter in model.parameters():
                parameter.data *= 1.1  # which no version counts
            assert_same(copy.deepcopy(model), function, x)
            assert not any(torch.allclose(*pair) for pair in zip(before, function(x)))
        assert counter.frame_count == 1

    @pytest.mark.skipif(not linear._known_to_onednn(torch.bfloat16), reason='torch or the processor has no bfloat16')
    def test_autocast_computes_in_its_dtype(self, graphs, backend):
        model = build('swin', 'Random', sparsity=0.5)
        function = torch.compile(model, backend=backend, fullgraph=True)
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
            for expected, found in zip(model(x := images()), function(x)):
                assert found.dtype == expected.dtype
                torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)
        assert self.products(graphs[0])[0] > 0


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ('c++', 'g++', 'clang++'))), reason='needs a C++ compiler')
def test_generated_code_computes_the_same():
    model = build('swin', 'Magnitude', sparsity=0.5)
    with torch.no_grad():
        assert_same(model, torch.compile(model, fullgraph=True), images(40, 36, batch=1))


@pytest.mark.parametrize(
    ('family', 'dynamic'),
    [('swin', None), ('swin', True), ('dynamic-swin', True), ('convnext', True), ('vit', True), ('pit', True)],
)
def test_images_of_several_sizes(family, dynamic):
    model = build(family, 'Magnitude', sparsity=0.5)
    # Lowering with symbolic sizes takes most of the time, and is much alike for all of them.
    function, _ = compiled(model, 'aot_eager' if family == 'swin' else 'eager', dynamic=dynamic)
    with torch.no_grad():
        for height, width, batch in ((72, 60, 2), (40, 100, 3), (72, 60, 2)):
            assert_same(model, function, images(height, width, batch))


@pytest.mark.parametrize('family', ['swin', 'vit'])
def test_sizes_beyond_the_limit_of_compilations(family):
    model = build(family, 'Magnitude', sparsity=0.5)
    function, counter = compiled(model, dynamic=False)
    with limit(2), torch.no_grad():
        for side in (40, 48, 56, 64, 72):
            assert_same(model, function, images(side, side, 1))
    assert counter.frame_count == 2


@pytest.mark.parametrize('family', ['swin', 'dynamic-swin', 'vit'])
def test_without_compiling_after_compiling(family):
    model = build(family, 'Random', sparsity=0.5)
    fresh, x = copy.deepcopy(model), images()
    function, _ = compiled(model)
    with torch.no_grad():
        function(x)
        assert_same(fresh, model, x)
        # and the other way round: what the cache holds by now does not compile anew
        assert_same(fresh, function, x)


@pytest.mark.parametrize(
    ('family', 'selector'), [('swin', 'Magnitude'), ('dynamic-swin', 'Random'), ('vit', 'Predictor')]
)
def test_gradients_are_those_without_compiling(family, selector):
    model, x = build(family, selector, sparsity=0.5).train(), images()
    function, counter = compiled(model, 'aot_eager', fullgraph=True)
    expected, found = gradients(model, model, x), gradients(model, function, x)
    assert expected.keys() == found.keys() and counter.frame_count == 1
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_another_sparsity_in_every_step_comes_to_an_end():
    model, x = build('swin', 'Magnitude').train(), images()
    function, counter = compiled(model)
    with limit(2):
        for sparsity in (0, 0.2, 0.4, 0.6, 0.8, 0.2):
            model.sparsity = sparsity
            expected, found = gradients(model, model, x), gradients(model, function, x)
            assert all(torch.allclose(found[name], expected[name], rtol=1e-3, atol=1e-6) for name in expected)
    assert counter.frame_count == 2


def test_adaptive_counts_are_no_single_graph_and_right():
    selector = dict(type='sparsevit_mm.PredictorSelector', draw='batch', noise=0)
    model = randomize(PrunedViT(**VIT, selector=selector, sparsity=0.5, counts='adaptive')).eval()
    function, _ = compiled(model)
    with torch.no_grad():
        assert_same(model, function, images())
        assert_same(model, function, images())


def test_selections_can_be_recorded():
    model, x = build('swin', 'Magnitude', sparsity=0.5), images()
    function, _ = compiled(model, fullgraph=True)
    with torch.no_grad():
        function(x)
        with model.record_selections() as expected:
            model(x)
        with model.record_selections() as found:
            function(x)
    assert [record.site for record in found] == [record.site for record in expected] == ['stage1.pair1'] * 2
    assert all(torch.equal(a.kept, b.kept) for a, b in zip(expected, found))


def test_compiled_in_place_keys_stay():
    model = build('vit', 'Magnitude', sparsity=0.5)
    fresh, keys = copy.deepcopy(model), list(model.state_dict())
    counter = CompileCounterWithBackend('eager')
    model.compile(fullgraph=True, backend=counter)
    with torch.no_grad():
        assert_same(fresh, model, images())
    assert list(model.state_dict()) == keys and counter.frame_count == 1


class Segmentor(BaseModel):
    """As little as a model can be."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = build('swin', 'Magnitude', sparsity=0.5)

    def init_weights(self) -> None:
        """They are there, and the same for every run."""

    def forward(self, x, mode='tensor'):
        outs = self.backbone(x)
        return dict(loss=sum(out.square().mean() for out in outs)) if mode == 'loss' else outs


def trained(folder: Path, compile: dict | bool, hooks: list) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    loader = dict(
        batch_size=2,
        num_workers=0,
        dataset=[dict(x=torch.randn(3, 40, 36)) for _ in range(8)],
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    runner = Runner(
        Segmentor(),
        str(folder),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=hooks,
        default_hooks=dict(checkpoint=None, logger=None),
        cfg=dict(compile=compile),
        experiment_name=folder.name,
        log_level='ERROR',
        randomness=dict(seed=0),
    )
    return runner.train().state_dict()


@pytest.mark.parametrize('adapting', [False, True])
def test_runner_compiles_training(tmp_path, adapting):
    hooks = [SparsityAdaptationHook(choices=(0, 0.2, 0.4, 0.6))] if adapting else []
    with limit(2):
        expected = trained(tmp_path / 'eager', False, hooks)
        torch._dynamo.utils.counters.clear()
        found = trained(tmp_path / 'compiled', dict(backend='eager'), hooks)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] > 0
    assert all(torch.allclose(found[key], expected[key], atol=1e-6) for key in expected)


def limit(compilations: int):
    """So many compilations of a function until Dynamo gives it up."""
    return torch._dynamo.config.patch({compilation_limit_option(): compilations})


def gradients(model: SparseBackbone, function, x: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss = sum(out.square().mean() for out in function(x))
    for ratio in model.keep_ratios.values():
        loss = loss + (ratio - 0.3).square().mean()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
