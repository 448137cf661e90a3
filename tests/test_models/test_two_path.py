"""What DynamicSwin and DynamicConvNeXt have in common."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sparsevit_mm.models import DynamicConvNeXt, DynamicSwin, SparseBackbone
from sparsevit_mm.models.layers import FastPath, PathChoice, PathSelectors
from sparsevit_mm.sparsity import keep_count

from .conftest import randomize

SWIN = dict(embed_dims=8, depths=(1, 1, 6, 1), num_heads=(1, 1, 2, 2))
CONVNEXT = dict(arch=dict(depths=(1, 1, 6, 1), channels=(8, 16, 32, 64)))
SPARSITY = (0.3, 0.5, 0.7)
LEARNERS = [dict(type='sparsevit_mm.PredictorSelector'), dict(type='sparsevit_mm.PredictorSelector', draw='gumbel')]
CONTROLS = [dict(type='sparsevit_mm.MagnitudeSelector'), dict(type='sparsevit_mm.RandomSelector')]


def build_swin(**arguments) -> DynamicSwin:
    return DynamicSwin(**SWIN | dict(drop_path_rate=0.0) | arguments)


def build_convnext(**arguments) -> DynamicConvNeXt:
    return DynamicConvNeXt(**CONVNEXT | arguments)


def build_grn(**arguments) -> DynamicConvNeXt:
    return build_convnext(use_grn=True, layer_scale_init_value=0.0, **arguments)


@pytest.fixture(params=[build_swin, build_convnext, build_grn])
def build(request) -> Callable[..., SparseBackbone]:
    """Makes a backbone with weights that are not at their starting values."""

    def made(**arguments) -> SparseBackbone:
        torch.manual_seed(1)
        model = request.param(**dict(sparsity=SPARSITY) | arguments)
        model.init_weights()
        return randomize(model)

    return made


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 136, 200, generator=torch.Generator().manual_seed(3))


def loss_of(outs) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return sum((out * torch.randn(out.shape, generator=generator)).mean() for out in outs)


def grads(model) -> dict[str, Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def largest_difference(ours, theirs) -> float:
    assert len(ours) == len(theirs) and all(a.shape == b.shape for a, b in zip(ours, theirs))
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs))


@contextmanager
def choices_of(monkeypatch) -> Iterator[list[PathChoice]]:
    """Collects what sites choose."""
    made, choose = [], PathSelectors.choose

    def noted(self, *args):
        made.append(choose(self, *args))
        return made[-1]

    with monkeypatch.context() as patch:
        patch.setattr(PathSelectors, 'choose', noted)
        yield made


@contextmanager
def replayed(monkeypatch, choices: list[PathChoice]) -> Iterator[None]:
    """Sites choose what they are told, as inference does: by index, without a gradient."""
    answers = iter(choices)

    def hard(self, *args):
        slow = next(answers).decisions.detach() > 0.5
        return PathChoice(*(torch.stack([row.nonzero().flatten() for row in mask]) for mask in (slow, ~slow)))

    with monkeypatch.context() as patch:
        patch.setattr(PathSelectors, 'choose', hard)
        yield


@pytest.mark.parametrize(('selector', 'batch'), [(LEARNERS[0], 2), (LEARNERS[1], 1)], ids=['topk', 'gumbel'])
@pytest.mark.parametrize('site_blocks', [None, (0, 4)])
def test_training_and_inference_give_one_map_for_the_same_decisions(build, monkeypatch, selector, batch, site_blocks):
    sparsity = SPARSITY if site_blocks is None else (0.4, 0.4)
    model = build(selector=selector, site_blocks=site_blocks, sparsity=sparsity).train()
    with choices_of(monkeypatch) as choices:
        trained = model(images(batch))
    slow = [choice.decisions for choice in choices]
    assert len(slow) == len(sparsity) and all(0 < mask.sum() < mask.numel() for mask in slow)
    assert any(((before == 0) & (after == 1)).any() for before, after in pairwise(slow))  # some come back
    model.eval()
    with replayed(monkeypatch, choices), torch.no_grad():
        assert largest_difference(model(images(batch)), trained) < 1e-5
    with replayed(monkeypatch, choices):
        assert largest_difference(model(images(batch)), trained) < 1e-5


def test_without_noise_training_decides_as_inference(build):
    model = build(selector=LEARNERS[0] | dict(noise=0))
    with model.record_selections() as training:
        trained = model.train()(images())
    with model.record_selections() as inference, torch.no_grad():
        tested = model.eval()(images())
    assert all(torch.equal(a.kept, b.kept) for a, b in zip(training, inference))
    assert largest_difference(trained, tested) < 1e-5


@pytest.mark.parametrize('selector', CONTROLS, ids=lambda selector: selector['type'])
def test_training_and_inference_are_one_with_selectors_that_do_not_learn(build, selector):
    model = build(selector=selector).train()
    trained = model(images())
    assert not model.keep_ratios
    with torch.no_grad():
        assert largest_difference(model.eval()(images()), trained) < 1e-5


def test_chunks_change_nothing(build):
    model = build().eval()
    for sparsity in (0, SPARSITY):
        model.sparsity = sparsity
        maps = []
        for model.chunk_rows in (1 << 40, 40):
            with torch.no_grad():
                maps.append(model(images()))
        assert largest_difference(*maps) < 1e-5


@pytest.mark.parametrize('batch', [2, 3])
def test_an_image_never_depends_on_its_neighbours(build, batch):
    model = build().eval()
    pictures = images(batch)
    with torch.no_grad():
        together = model(pictures)
        for i in range(batch):
            alone = model(pictures[i : i + 1])
            assert largest_difference([out[i : i + 1] for out in together], alone) < 1e-5


def test_decisions_come_back(build):
    model = build().eval()
    with model.record_selections() as records, torch.no_grad():
        model(images())
    first, second = (next(r.token_mask() for r in records if r.site == site) for site in model.sites[:2])
    assert (second & ~first).any()


def test_records_tell_the_tokens_of_the_slow_path(build):
    model = build().eval()
    with model.record_selections() as records, torch.no_grad():
        model(images())
    assert [(r.site, r.block) for r in records] == [
        ('stage3.block1', 1), ('stage3.block2', 2), ('stage3.block3', 3), ('stage3.block3', 4), ('stage3.block3', 5)
    ]  # fmt: skip
    length = records[0].grid[0] * records[0].grid[1]
    for record, sparsity in zip(records, (*SPARSITY, 0.7, 0.7)):
        assert (record.window, record.shift, record.num_units) == (1, 0, length)
        assert record.kept.shape == (2, keep_count(length, sparsity))
        assert record.token_mask().flatten(1).sum(1).tolist() == [keep_count(length, sparsity)] * 2
    model.sparsity = (0, 0, 0.5)
    with model.record_selections() as records, torch.no_grad():
        model(images())
    assert [bool(r.token_mask().all()) for r in records] == [True, True, False, False, False]


def test_free_draws_are_not_recorded(build):
    model = build(selector=LEARNERS[1], sparsity=(0, 0.5, 0.5)).train()
    with model.record_selections() as records:
        model(images())
    assert [r.block for r in records] == [1]  # dense, so there was no draw
    with model.eval().record_selections() as records, torch.no_grad():
        model(images())
    assert [r.block for r in records] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize('selector', LEARNERS, ids=['topk', 'gumbel'])
def test_gradients_reach_all_selectors_and_fast_paths(build, selector):
    model = build(selector=selector).train()
    loss_of(model(images())).backward()
    new = [module for module in model.modules() if isinstance(module, FastPath)] + list(model.selectors())
    assert len(new) == 5 + 3
    for module in new:
        for name, parameter in module.named_parameters():
            assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, (type(module).__name__, name)
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize('selector', LEARNERS + CONTROLS, ids=['topk', 'gumbel', 'magnitude', 'random'])
@pytest.mark.parametrize('sparsity', [0, (0, 0, 0.5), 0.5])
def test_no_parameter_is_unused(build, selector, sparsity):
    """Data-parallel training waits for a gradient of every one."""
    model = build(selector=selector, sparsity=sparsity).train()
    loss_of(model(images(1))).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_keep_ratios_carry_a_gradient_and_last_one_forward(build):
    for selector in LEARNERS:
        model = build(selector=selector, sparsity=(0, 0.4, 0.6)).train()
        model(images())
        assert list(model.keep_ratios) == ['stage3.block2', 'stage3.block3']
        for ratio in model.keep_ratios.values():
            assert ratio.shape == (2,) and ratio.dtype == torch.float32 and ratio.requires_grad
        model.eval()(images())
        assert not model.keep_ratios


@pytest.mark.parametrize('selector', LEARNERS, ids=['topk', 'gumbel'])
def test_autocast(build, selector):
    model = build(selector=selector).train()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        outs = model(images())
    assert all(ratio.dtype == torch.float32 for ratio in model.keep_ratios.values())
    loss_of(outs).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    model.eval()
    # Decisions flip by rounding, so only a dense map can be compared.
    for sparsity in (SPARSITY, 0):
        model.sparsity = sparsity
        with torch.no_grad():
            exact = model(images())
            with torch.autocast('cpu', dtype=torch.bfloat16):
                rough = model(images())
        assert all(out.isfinite().all() for out in rough)
    for a, b in zip(exact, rough):
        assert (a - b.float()).abs().mean() < 0.05 * a.abs().mean()


@pytest.mark.cuda
@pytest.mark.parametrize('sparsity', [0, SPARSITY])
def test_cuda_equals_cpu(build, sparsity):
    model = build(sparsity=sparsity).eval()
    exact = model(images())
    model.cuda()
    for a, b in zip(exact, model(images().cuda())):
        assert (a - b.cpu()).abs().mean() < 1e-3 * a.abs().mean()


@pytest.mark.parametrize('selector', LEARNERS + CONTROLS[:1], ids=['topk', 'gumbel', 'magnitude'])
def test_checkpointing_gives_the_same_gradients(build, selector):
    results = []
    for with_cp in (False, True):
        model = build(selector=selector, with_cp=with_cp, drop_path_rate=0.3).train()
        torch.manual_seed(7)
        loss_of(model(images())).backward()
        results.append(grads(model))
    for name, gradient in results[0].items():
        torch.testing.assert_close(results[1][name], gradient, msg=name)


def test_drop_path_is_drawn_for_an_image(build):
    model = build(drop_path_rate=0.6, sparsity=0.5).train()
    block = next(m for m in model.stages[2].modules() if hasattr(m, 'fast'))
    drop = block.ffn.dropout_layer if hasattr(block, 'ffn') else block.drop_path
    dropped = []
    drop.register_forward_hook(lambda _, args, out: dropped.append((out == 0).flatten(1).all(1)))
    kept = []
    drop.register_forward_hook(lambda _, args, out: kept.append((out != 0).flatten(1).float().mean(1)))
    drop.drop_prob = 0.5
    model(images(1).expand(16, -1, -1, -1))
    assert 0 < dropped[0].sum() < 16
    assert (kept[0][~dropped[0]] > 0.9).all()  # both paths of an image share its draw


def test_sparsity_changes_at_run_time(build):
    model = build(sparsity=0).eval()
    with torch.no_grad():
        dense = model(images())
        model.sparsity = SPARSITY
        assert largest_difference(model(images()), dense) > 1e-3
        model.sparsity = 0
        assert largest_difference(model(images()), dense) == 0
    with pytest.raises(ValueError, match='must not decrease'):
        model.sparsity = (0.5, 0.3, 0.5)
    assert model.sparsity == (0, 0, 0)


def test_a_dense_site_asks_no_selector(build):
    model = build(sparsity=0).eval()
    for selector in model.selectors():
        selector.register_forward_hook(lambda *_: pytest.fail('a selector ran'))
    model(images(1))
    model.train()(images(1))


def test_stages_and_positions_by_argument(build):
    model = build(site_blocks=(0,), site_stage=0, sparsity=0.5)
    assert model.sites == ('stage1.block0',)
    model = build(site_blocks={0: (0,), 2: (2, 4), '3': [0]}, sparsity=(0.5, 0.2, 0.5, 0.1)).eval()
    assert model.sites == ('stage1.block0', 'stage3.block2', 'stage3.block4', 'stage4.block0')
    with model.record_selections() as records, torch.no_grad():
        model(images())
    assert [(r.site, r.block) for r in records] == [
        ('stage1.block0', 0),
        *(('stage3.block2', block) for block in (2, 3)),
        *(('stage3.block4', block) for block in (4, 5)),
        ('stage4.block0', 0),
    ]


@pytest.mark.parametrize('frozen', [0, 2, 3])
def test_frozen_stages_freeze_selectors_and_fast_paths(build, frozen):
    model = build(frozen_stages=frozen).train()
    for module in model.stages[2].modules():
        assert module.training == (frozen < 3)
    assert all(parameter.requires_grad == (frozen < 3) for parameter in model.stages[2].parameters())
    loss_of(model(images())).backward()
    assert bool(model.keep_ratios) == (frozen < 3)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all(dict(model.named_parameters())[name].grad is not None for name in trained)


def test_copies_and_caches(build):
    model = build().train()
    with torch.inference_mode():
        model.eval()(images())
    model.train()
    loss_of(model(images())).backward()
    twin = copy.deepcopy(model)
    assert twin.sparsity == SPARSITY and not twin.keep_ratios


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(site_blocks=(1, 6)), r'site_blocks must be blocks from 0 to 5, since stage 2 has 6; got \(1, 6\)'),
        (dict(site_blocks=(-1, 2)), r'site_blocks must be blocks from 0 to 5.*got \(-1, 2\)'),
        (dict(site_blocks=(1.5,)), r'site_blocks must be blocks from 0 to 5.*got \(1.5,\)'),
        (dict(site_blocks=(3, 1)), r'must ascend without repeats, got \(3, 1\); try \(1, 3\)'),
        (dict(site_blocks=(1, 1)), r'must ascend without repeats, got \(1, 1\); try \(1,\)'),
        (dict(site_blocks=()), r'site_blocks must name one block at least, got \(\)'),
        (dict(site_blocks='123'), "site_blocks must be a sequence of blocks.*'123'"),
        (dict(site_blocks=3), 'site_blocks must be a sequence of blocks.*3'),
        (dict(site_blocks={7: (0,)}), 'site_blocks must name stages from 0 to 3.*got 7'),
        (dict(site_stage=4), 'site_stage must name stages from 0 to 3.*got 4'),
        (dict(site_stage=0), r'site_blocks must be given for stage 0, which has 1 block: try \(0,\)'),
        (dict(sparsity=(0.5, 0.5)), '2 values .* 3 sites'),
        (dict(sparsity=(0.5, 0.4, 0.6)), 'must not decrease'),
        (dict(selector=dict(type='sparsevit_mm.ClassAttentionSelector')), 'ClassAttentionSelector ranks by a class'),
        (dict(selector=dict(type='sparsevit_mm.Predictor')), 'selector .* cannot be built'),
    ],
    ids=lambda value: str(value)[:40],
)
def test_constructor_says_what_is_wrong(build, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)
