import copy
import pickle

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from sparsevit_mm.cost import measure_macs
from sparsevit_mm.graphs import CUDAGraphed, GraphKey, use_cuda_graphs
from sparsevit_mm.models import DynamicConvNeXt, DynamicSwin, PrunedPiT, PrunedViT, SparseSwin, find_sparse_backbone

SWIN = dict(embed_dims=16, depths=(2, 2), num_heads=(2, 4), strides=(4, 2), out_indices=(0, 1), window_size=7)
VIT = dict(img_size=64, patch_size=8, embed_dims=16, num_layers=3, num_heads=2, site_blocks=(1, 2), out_indices=(0, 2))
PIT = dict(arch=dict(head_dims=(8, 8), num_heads=(1, 2), depths=(1, 2)), img_size=64, out_indices=(0, 1))
CONVNEXT = dict(arch=dict(depths=(1, 3), channels=(16, 16)), out_indices=(0, 1), site_stage=1, site_blocks=(1, 2))
BACKBONES = {
    'swin': lambda: SparseSwin(**SWIN),
    'swin-package': lambda: SparseSwin(**SWIN, bypass='package', selector=dict(type='sparsevit_mm.MultiHeadSelector')),
    'swin-random': lambda: SparseSwin(**SWIN, selector=dict(type='sparsevit_mm.RandomSelector')),
    'dynamic-swin': lambda: DynamicSwin(**SWIN, site_stage=1, site_blocks=(0, 1)),
    'convnext': lambda: DynamicConvNeXt(**CONVNEXT),
    'vit': lambda: PrunedViT(**VIT, output_cls_token=True),
    'vit-package': lambda: PrunedViT(
        **VIT, bypass='package', selector=dict(type='sparsevit_mm.ClassAttentionSelector')
    ),
    'pit': lambda: PrunedPiT(**PIT),
}
ADAPTIVE = dict(selector=dict(type='sparsevit_mm.PredictorSelector', draw='batch'), counts='adaptive')


def build(name: str = 'swin', sparsity: float = 0.5) -> nn.Module:
    model = BACKBONES[name]()
    model.init_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    model.sparsity = sparsity
    return model.eval()


class Segmentor(nn.Module):
    """A model around a backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = build()

    def forward(self, x):
        return self.backbone(x)[-1]


def images(side: int = 72, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, side, 60)


def flat(value) -> list[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else [tensor for part in value for tensor in flat(part)]


def assert_same(found, expected) -> None:
    assert type(found) is type(expected)
    for a, b in zip(flat(found), flat(expected), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('name', BACKBONES)
def test_the_backbone_itself_runs_on_a_cpu(name):
    model, x = build(name), images()
    graphed = CUDAGraphed(model)
    with torch.no_grad():
        assert_same(graphed(x), model(x))
    assert len(graphed) == 0 and not graphed.replays(x)


def test_training_goes_on_as_before():
    model, x = build().train(), images()
    torch.manual_seed(0)
    sum(out.square().mean() for out in model(x)).backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    use_cuda_graphs(model)
    torch.manual_seed(0)
    sum(out.square().mean() for out in model(x)).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


@pytest.mark.parametrize('model', [SparseSwin(**SWIN, **ADAPTIVE), PrunedViT(**VIT, **ADAPTIVE)])
def test_adaptive_counts_are_refused(model):
    for function in (CUDAGraphed, use_cuda_graphs):
        with pytest.raises(ValueError, match=f"{type(model).__name__} has counts='adaptive'.*Build it with counts"):
            function(model)
    assert 'forward' not in vars(model)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=r'SparseSwin has chunk_rows=64: .*Set chunk_rows=None'):
        CUDAGraphed(SparseSwin(**SWIN, chunk_rows=64))
    for wrong in (0, True, 1.5):
        with pytest.raises(ValueError, match=f'max_graphs must be a positive int, .*got {wrong}'):
            CUDAGraphed(build(), wrong)
    with pytest.raises(ValueError, match='Sequential has no sparse backbone'):
        use_cuda_graphs(nn.Sequential(nn.Linear(2, 2)))
    model = build()
    model.forward = lambda x: x
    with pytest.raises(ValueError, match=r'forward of the SparseSwin has been replaced by .*lambda.*take that back'):
        use_cuda_graphs(model)


def test_a_key_holds_for_images_and_not_for_shapes():
    model = build()
    key = GraphKey.of(model, images())
    assert key == GraphKey.of(model, images()) and hash(key) == hash(GraphKey.of(model, images()))
    keys = {
        key,
        GraphKey.of(model, images(80)),
        GraphKey.of(model, images(batch=1)),
        GraphKey.of(model, images().half()),
    }
    keys.add(GraphKey.of(model, images().to('meta')))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        keys.add(GraphKey.of(model, images()))
    model.sparsity = (0.5, 0.6)
    keys.add(GraphKey.of(model, images()))
    assert len(keys) == 7
    model.sparsity = 0.5
    assert GraphKey.of(model, images()) == key
    assert GraphKey.of(nn.Conv2d(3, 4, 3), images()).sparsity is None


def test_a_model_is_switched_on_and_off():
    model, x = Segmentor().eval(), images()
    keys = list(model.state_dict())
    with torch.no_grad():
        expected = model(x)
        assert use_cuda_graphs(model, max_graphs=3) is model
        assert isinstance(model.backbone.forward, CUDAGraphed) and model.backbone.forward.max_graphs == 3
        assert list(model.state_dict()) == keys and find_sparse_backbone(model) is model.backbone
        assert torch.equal(model(x), expected)
        use_cuda_graphs(use_cuda_graphs(model), enabled=False)
        assert 'forward' not in vars(model.backbone) and torch.equal(model(x), expected)
        use_cuda_graphs(model, False)


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_run_their_own_backbone(copied):
    model, x = use_cuda_graphs(build()), images()
    other = copied(model)
    assert other.forward.backbone is other and len(other.forward) == 0
    with torch.no_grad():
        expected = model(x)
        other.sparsity = 0.6
        assert torch.equal(model(x)[0], expected[0]) and not torch.equal(other(x)[0], expected[0])


def test_counting_and_compiling_see_the_backbone():
    model, x = build(), images()
    macs = measure_macs(model, (72, 60))
    use_cuda_graphs(model)
    assert measure_macs(model, (72, 60)) == macs
    counter = CompileCounterWithBackend('eager')
    torch._dynamo.reset()
    function = torch.compile(model, fullgraph=True, backend=counter)
    with torch.no_grad():
        for a, b in zip(function(x), model(x)):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert counter.frame_count == 1


@pytest.mark.cuda
@pytest.mark.parametrize('name', BACKBONES)
def test_replays_give_what_the_backbone_gives(name):
    model = build(name).cuda()
    graphed = CUDAGraphed(model)
    with torch.no_grad():
        for sparsity in (0.5, 0, 0.5):
            model.sparsity = sparsity
            for _ in range(3):
                x = images().cuda()
                assert graphed.replays(x)
                assert_same(graphed(x), model(x))
    assert len(graphed) == 2


@pytest.mark.cuda
def test_what_was_given_stays():
    model, graphed = build().cuda(), None
    graphed = CUDAGraphed(model)
    with torch.no_grad():
        x = images().cuda()
        first = graphed(x)
        kept = [out.clone() for out in first]
        graphed(images().cuda())
        graphed(images(80).cuda())
    assert all(torch.equal(a, b) for a, b in zip(first, kept))


@pytest.mark.cuda
def test_the_last_used_graphs_are_kept():
    model = build().cuda()
    graphed = CUDAGraphed(model, max_graphs=2)
    with torch.no_grad():
        for side in (64, 72, 64, 80, 64, 72):
            x = images(side).cuda()
            assert_same(graphed(x), model(x))
            assert len(graphed) <= 2
    graphed.reset()
    assert len(graphed) == 0


@pytest.mark.cuda
def test_weights_may_change_and_move():
    model, x = build().cuda(), images().cuda()
    graphed = CUDAGraphed(model)
    with torch.no_grad():
        before = graphed(x)
        for parameter in model.parameters():
            parameter.mul_(1.1)
        assert_same(graphed(x), model(x))
        assert not torch.equal(graphed(x)[0], before[0])
        for parameter in model.parameters():
            parameter.data = 0.5 * parameter.data
        assert_same(graphed(x), model(x))
        state = {key: value + 0.1 if value.is_floating_point() else value for key, value in model.state_dict().items()}
        model.load_state_dict(state, assign=True)
        assert_same(graphed(x), model(x))
    assert len(graphed) == 1


@pytest.mark.cuda
def test_tables_that_a_cache_forgets_stay():
    model, x = build('swin-random').cuda(), images().cuda()
    graphed = CUDAGraphed(model)
    with torch.no_grad():
        expected = graphed(x)
        for stage in model.stages:
            stage._grids, stage._routes, stage._images = (type(stage._grids)() for _ in range(3))
            stage.selector._permutations = type(stage._grids)()
        torch.cuda.empty_cache()
        waste = [torch.full((size,), 1 << 40, device='cuda') for size in (10, 100, 1000, 10000) for _ in range(100)]
        assert_same(graphed(x), expected)
        assert len(waste) == 400


@pytest.mark.cuda
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_and_inference_mode(dtype):
    model, x = build().cuda(), images().cuda()
    graphed = CUDAGraphed(model)
    with torch.inference_mode(), torch.autocast('cuda', dtype=dtype):
        expected = model(x)
        for _ in range(3):
            assert_same(graphed(x), expected)
    with torch.no_grad():
        with torch.autocast('cuda', dtype=dtype):
            assert_same(graphed(x), model(x))
        assert_same(graphed(x), model(x))
    assert len(graphed) == 2


@pytest.mark.cuda
def test_whoever_looks_sees_the_backbone():
    model, x = use_cuda_graphs(build().cuda()), images().cuda()
    with torch.no_grad():
        model(x)
        assert len(model.forward) == 1
        with model.record_selections() as records:
            model(x)
        assert len(records) == 4
        called = []
        hook = model.stages[0].register_forward_hook(lambda *_: called.append(1))
        model(x)
        hook.remove()
        assert called == [1] and model.forward.replays(x)
    model.train()
    assert not model.forward.replays(x)
    assert all(out.requires_grad for out in model(x))
    with model.eval().record_selections():
        assert not model.forward.replays(x)


@pytest.mark.cuda
def test_what_cannot_be_captured_says_so():
    class Waiting(nn.Module):
        def forward(self, x):
            return x * int(x.sum())

    with torch.no_grad(), pytest.raises(RuntimeError, match=r'Waiting cannot be captured as a CUDA graph for .*shape'):
        CUDAGraphed(Waiting().eval())(torch.ones(1, 3, 4, 4, device='cuda'))
