"""``ranking`` of a SparseSwin: windows are scored once a stage, or before each site."""

import pytest
import torch

from sparsevit_mm.compat import has_custom_operators
from sparsevit_mm.cost import count_macs
from sparsevit_mm.models import SparseSwin
from sparsevit_mm.sparsity import keep_count

from .conftest import randomize

LEARNS = dict(type='sparsevit_mm.MultiHeadSelector')


def build(tiny_swin_cfg, ranking='site', **arguments) -> SparseSwin:
    torch.manual_seed(0)
    model = SparseSwin(**tiny_swin_cfg | dict(ranking=ranking, drop_path_rate=0.0) | arguments)
    model.init_weights()
    return randomize(model, 0.2).eval()


def kept(model, images):
    with torch.no_grad(), model.record_selections() as records:
        model(images)
    return [(record.site, record.block, record.kept) for record in records]


def test_every_site_keeps_the_largest_windows_of_its_moment(tiny_swin_cfg):
    model, images = build(tiny_swin_cfg, sparsity=(0, 0.5, 0.6)), torch.randn(2, 3, 224, 168)
    seen = []
    stage = model.stages[1]
    for block in stage.blocks[::2]:
        block.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    chosen = [windows for _, block, windows in kept(model, images)[2:] if block % 2 == 0]
    assert len(chosen) == len(seen) == 2
    for rows, windows, sparsity in zip(seen, chosen, (0.5, 0.6)):
        # The map is 28 x 21 tokens, 4 x 3 windows with no padding.
        tokens = rows.view(2, 4, 7, 3, 7, 32).transpose(2, 3).abs().mean(-1)
        scores = tokens.flatten(3).norm(dim=-1).flatten(1)
        best = scores.topk(keep_count(12, sparsity)).indices
        assert [set(row.tolist()) for row in windows] == [set(row.tolist()) for row in best]


def test_windows_come_back_only_if_they_are_scored_again(tiny_swin_cfg, monkeypatch):
    """Blocks make features larger; where the smallest ones stay, it is the turn of others after a site."""
    images = torch.randn(4, 3, 224, 224)

    def returned(ranking):
        model = build(tiny_swin_cfg, ranking, sparsity=(0, 0.6, 0.6))
        selector = model.stages[1].selector
        largest = selector.score_windows
        monkeypatch.setattr(selector, 'score_windows', lambda *args: [-scores for scores in largest(*args)])
        found = kept(model, images)[2:]
        return sum(len(set(b.tolist()) - set(a.tolist())) for a, b in zip(found[0][2], found[2][2]))

    assert returned('stage') == 0
    assert returned('site') > 0


def test_one_site_a_stage_is_the_same(tiny_swin_cfg):
    images, sparsity = torch.randn(2, 3, 100, 130), (0.4, 0, 0.6)
    maps = [build(tiny_swin_cfg, ranking, sparsity=sparsity)(images) for ranking in ('stage', 'site')]
    assert all(torch.equal(a, b) for a, b in zip(*maps))


@pytest.mark.parametrize('selector', [None, LEARNS], ids=['magnitude', 'learned'])
def test_training_is_the_path_of_inference(tiny_swin_cfg, selector):
    arguments = {} if selector is None else dict(selector=selector | dict(noise=0))
    model, images = build(tiny_swin_cfg, sparsity=(0.3, 0.4, 0.6), **arguments), torch.randn(2, 3, 100, 130)
    expected = [out.detach() for out in model(images)]
    model.train()
    maps = model(images)
    for out, other in zip(maps, expected):
        torch.testing.assert_close(out, other, rtol=1e-4, atol=1e-5)
    sum(out.square().mean() for out in maps).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    if selector is not None:
        assert set(model.keep_ratios) == set(model.sites)


def test_scoring_again_is_counted(tiny_swin_cfg):
    """The second stage prunes two sites of a plain and a shifted block: four scorings, not two."""
    shape, found = (224, 224), {}
    for ranking in ('stage', 'site'):
        model = build(tiny_swin_cfg, ranking, sparsity=(0.5, 0.5, 0.5), selector=LEARNS)
        found[ranking] = count_macs(model, shape)
    assert found['site'] - found['stage'] == 2 * model.stages[1].selector.count_macs(16)


def test_sites_with_counts_of_their_own_may_differ(tiny_swin_cfg):
    learns = dict(LEARNS, draw='batch')
    arguments = dict(selector=learns, counts='adaptive', sparsity=(0.5, 0.2, 0.6))
    with pytest.raises(ValueError, match="ranking='site'"):
        build(tiny_swin_cfg, 'stage', **arguments)
    model = build(tiny_swin_cfg, **arguments).train()
    sum(out.square().mean() for out in model(torch.randn(4, 3, 224, 224))).backward()
    shares = {site: counts.float().mean().item() / 16 for site, counts in model.kept_counts.items()}
    assert shares['stage2.pair1'] == pytest.approx(1 - 0.2, abs=0.07)
    assert shares['stage2.pair2'] == pytest.approx(1 - 0.6, abs=0.07)


@pytest.mark.skipif(not has_custom_operators(), reason='torch is older than 2.4')
def test_it_exports_as_one_graph(tiny_swin_cfg):
    model, images = build(tiny_swin_cfg, sparsity=(0, 0.4, 0.6)), torch.randn(1, 3, 112, 112)
    with torch.no_grad():
        expected = model(images)
        exported = torch.export.export(model, (images,)).module()
        for out, other in zip(exported(images), expected):
            torch.testing.assert_close(out, other, rtol=1e-4, atol=1e-5)


def test_packages_do_not_go_with_it(tiny_swin_cfg):
    with pytest.raises(ValueError, match=r"ranking='site' lets windows come back.*set ranking='stage'"):
        build(tiny_swin_cfg, bypass='package')
    with pytest.raises(ValueError, match=r"ranking of SparseSwin must be one of .*got 'block'"):
        build(tiny_swin_cfg, 'block')
