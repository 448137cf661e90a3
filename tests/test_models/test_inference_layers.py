"""What layers do otherwise in inference than in training, and that nobody can tell by the results."""

import copy
import pickle

import pytest
import torch
from mmcv.cnn.bricks.transformer import FFN, PatchMerging
from torch import nn

from sparsevit_mm.models import DynamicConvNeXt, DynamicSwin, PrunedPiT, PrunedViT, SparseSwin
from sparsevit_mm.models.layers import FoldPatchMerging, WindowAttention, norm_to_map
from sparsevit_mm.models.layers.feed_forward import FeedForward

TINY_SWIN = dict(embed_dims=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=4)
BACKBONES = {
    'SparseSwin': lambda **given: SparseSwin(**TINY_SWIN, sparsity=0.5, **given),
    'SparseSwin, packages': lambda **given: SparseSwin(**TINY_SWIN, sparsity=0.5, bypass='package', **given),
    'DynamicSwin': lambda **given: DynamicSwin(**TINY_SWIN, site_blocks=(0, 1), sparsity=(0.3, 0.5), **given),
    'DynamicConvNeXt': lambda **given: DynamicConvNeXt(
        dict(depths=[1, 1, 3, 1], channels=[16, 32, 48, 64]), site_blocks=(1, 2), sparsity=(0.3, 0.5), **given
    ),
    'PrunedViT': lambda **given: PrunedViT(
        img_size=64, patch_size=8, embed_dims=32, num_heads=2, num_layers=4, site_blocks=(1, 2), sparsity=0.4, **given
    ),
    'PrunedPiT': lambda **given: PrunedPiT(arch='s', sparsity=0.4, **given),
}


def randomized(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module


@pytest.fixture(params=BACKBONES)
def build(request):
    return BACKBONES[request.param]


def maps(backbone: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(backbone(images))


def test_evaluation_gives_one_result_with_and_without_gradients(build):
    backbone, images = randomized(build()).eval(), torch.randn(2, 3, 72, 88)
    for fast, plain in zip(maps(backbone, images), backbone(images)):
        assert plain.requires_grad and not fast.requires_grad
        torch.testing.assert_close(fast, plain.detach(), atol=1e-4, rtol=1e-3)


class TestBias:
    """The bias of window attention is kept from one pass in inference to the next."""

    MASKS = torch.zeros(2, 16, 16).index_fill(0, torch.tensor([1]), -100.0)

    @pytest.fixture
    def attention(self):
        return randomized(WindowAttention(8, 2, 4)).eval()

    @staticmethod
    def expected(attention, masks):
        with torch.enable_grad():
            return attention.bias(masks).detach()

    @pytest.mark.parametrize('masks', [None, MASKS])
    @pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
    def test_is_made_once(self, attention, masks, mode):
        with mode():
            first = attention.bias(masks)
            assert attention.bias(masks) is first and not first.is_inference()
        assert torch.equal(first, self.expected(attention, masks))

    @pytest.mark.parametrize(
        'edit',
        [
            lambda attention: attention.relative_position_bias_table.data.add_(1),  # no version counts it
            lambda attention: attention.relative_position_bias_table.data[3].zero_(),
            lambda attention: attention.double(),
            lambda attention: attention.load_state_dict(WindowAttention(8, 2, 4).state_dict()),
        ],
    )
    def test_follows_its_table(self, attention, edit):
        with torch.no_grad():
            attention.bias()
            edit(attention)
            assert torch.equal(attention.bias(), self.expected(attention, None))

    def test_is_of_the_masks_that_are_given(self, attention):
        with torch.no_grad():
            for masks in (self.MASKS, None, self.MASKS[:1], self.MASKS):
                assert torch.equal(attention.bias(masks), self.expected(attention, masks))

    def test_learns(self, attention):
        with torch.no_grad():
            attention.bias()
        attention.bias().sum().backward()
        assert attention.relative_position_bias_table.grad.abs().sum() > 0

    def test_is_in_no_copy_and_no_file(self, attention):
        keys, size = list(attention.state_dict()), len(pickle.dumps(attention))
        with torch.no_grad():
            attention.bias()
        assert list(attention.state_dict()) == keys and len(pickle.dumps(attention)) == size
        clone = copy.deepcopy(attention)
        clone.relative_position_bias_table.data.zero_()
        with torch.no_grad():
            assert attention.bias().any() and not clone.bias().any()


def test_maps_are_contiguous(build):
    assert all(out.is_contiguous() for out in maps(build().eval(), torch.randn(2, 3, 64, 64)))


@pytest.mark.parametrize('rows', [0, -5, 2.5, True, 'all'])
def test_a_chunk_is_a_positive_number(build, rows):
    with pytest.raises(ValueError, match=f'chunk_rows must be a positive int.* got {rows!r}'):
        build(chunk_rows=rows)
    backbone = build(chunk_rows=7)
    with pytest.raises(ValueError, match='chunk_rows'):
        backbone.chunk_rows = rows
    assert backbone.chunk_rows == 7


def test_the_chunk_changes_no_result(build):
    backbone, images = randomized(build()).eval(), torch.randn(2, 3, 72, 88)
    expected = maps(backbone, images)
    for backbone.chunk_rows in (1, 33, 10**6, None):
        for found, out in zip(maps(backbone, images), expected):
            torch.testing.assert_close(found, out, atol=1e-4, rtol=1e-3)


def test_the_chunk_bounds_what_an_ffn_gets():
    backbone, sizes = randomized(SparseSwin(**TINY_SWIN, chunk_rows=64)).eval(), []
    backbone.stages[0].blocks[0].ffn.register_forward_hook(lambda module, args, out: sizes.append(args[0].shape[0]))
    maps(backbone, torch.randn(2, 3, 64, 64))
    assert sum(sizes) == 2 * 16 * 16 and max(sizes) == 64


def test_a_step_of_training_is_seen_by_the_next_evaluation(build):
    backbone, images = randomized(build()), torch.randn(2, 3, 64, 64)
    before = maps(backbone.eval(), images)
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
    sum(out.square().mean() for out in backbone.train()(images)).backward()
    optimizer.step()
    after = maps(backbone.eval(), images)
    assert not torch.allclose(before[-1], after[-1])
    fresh = build().eval()
    fresh.load_state_dict(backbone.state_dict())
    for found, out in zip(after, maps(fresh, images)):
        torch.testing.assert_close(found, out)


def test_a_moving_average_that_is_swapped_in_is_seen():
    from mmengine.model import ExponentialMovingAverage

    backbone, images = randomized(SparseSwin(**TINY_SWIN)).eval(), torch.randn(1, 3, 64, 64)
    average = ExponentialMovingAverage(randomized(copy.deepcopy(backbone)))
    own = maps(backbone, images)
    swap = zip(average.module.parameters(), backbone.parameters())
    for theirs, ours in swap:  # as EMAHook does
        kept = theirs.data.clone()
        theirs.data.copy_(ours.data)
        ours.data.copy_(kept)
    for found, out in zip(maps(backbone, images), maps(copy.deepcopy(backbone), images)):
        torch.testing.assert_close(found, out)
    assert not torch.allclose(own[0], maps(backbone, images)[0])


@pytest.mark.parametrize(
    'arguments', [{}, dict(num_fcs=3), dict(act_cfg=dict(type='ReLU', inplace=True)), dict(layer_scale_init_value=0.3)]
)
@torch.no_grad()
def test_an_ffn_is_computed_as_its_module_does(arguments):
    ffn, x = FFN(16, 40, **arguments).eval(), torch.randn(50, 16)
    identity = torch.randn(50, 16)
    expected = ffn(x, identity=identity)
    prepared = FeedForward(ffn, x)
    torch.testing.assert_close(prepared.branch(x), expected - identity, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(prepared(x, identity.clone()), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_altered_ffn_is_called():
    ffn, x = FFN(16, 40).eval(), torch.randn(50, 16)
    ffn.layers[0].append(nn.Tanh())
    torch.testing.assert_close(FeedForward(ffn, x)(x, x.clone()), ffn(x))


@pytest.mark.parametrize('size', [(8, 12), (7, 9)])
@pytest.mark.parametrize('norm', [dict(type='LN'), None])
@pytest.mark.parametrize('stride', [2, 4])
def test_merging_is_that_of_mmcv(size, norm, stride):
    theirs = randomized(PatchMerging(8, 16, kernel_size=stride, norm_cfg=norm))
    ours = FoldPatchMerging(8, 16, kernel_size=stride, norm_cfg=norm)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, size[0] * size[1], 8)
    expected, shape = theirs(x, size)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            for module in (ours.train(), ours.eval()):
                for module.chunk_rows in (None, 3):
                    found, out_shape = module(x, size)
                    assert tuple(out_shape) == tuple(shape)
                    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('grad', [True, False])
def test_a_norm_before_a_map(grad):
    norm, tokens = randomized(nn.LayerNorm(8)), torch.randn(2, 35, 8)
    with torch.set_grad_enabled(grad):
        found = norm_to_map(tokens, norm, (5, 7))
        torch.testing.assert_close(found, norm(tokens).transpose(1, 2).unflatten(2, (5, 7)))
    assert found.is_contiguous()
