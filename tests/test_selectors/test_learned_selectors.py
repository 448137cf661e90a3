import pytest
import torch

from sparsevit_mm.models import SparseSwin
from sparsevit_mm.ops import build_window_grid
from sparsevit_mm.selectors import ClassAttentionSelector, PredictorSelector, build_window_selector

PREDICTOR = dict(type='sparsevit_mm.PredictorSelector')


def predictor(dims: int = 16, **kwargs) -> PredictorSelector:
    return PredictorSelector(dims, **kwargs)


def test_the_predictor_is_the_published_module():
    """Equations 1 to 3 written down plainly, with the parameters under the names of the released code."""
    selector, x = predictor(), torch.randn(2, 7, 16)
    alive = torch.tensor([[1, 1, 0, 1, 0, 0, 1], [1, 1, 1, 1, 1, 1, 1]]).float()
    p = dict(selector.named_parameters())
    z = torch.nn.functional.layer_norm(x, (16,), p['in_conv.0.weight'], p['in_conv.0.bias'])
    z = torch.nn.functional.gelu(z @ p['in_conv.1.weight'].T + p['in_conv.1.bias'])
    for i in range(2):
        shared = z[i, alive[i] == 1, 8:].mean(0).expand(7, -1)
        y = torch.cat([z[i, :, :8], shared], dim=-1)
        for layer in (0, 2, 4):
            y = y @ p[f'out_conv.{layer}.weight'].T + p[f'out_conv.{layer}.bias']
            y = torch.nn.functional.gelu(y) if layer < 4 else y.log_softmax(-1)
        torch.testing.assert_close(selector.log_probabilities(x, alive)[i], y, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(selector(x, alive)[i], y[:, 0] - y[:, 1], rtol=1e-4, atol=1e-5)


def test_scores_are_finite_where_nothing_is_alive():
    scores = predictor()(torch.randn(1, 5, 16), torch.zeros(1, 5))
    assert scores.isfinite().all()


def test_scores_are_float32_under_autocast_and_in_half_precision():
    selector, x = predictor(), torch.randn(2, 5, 16)
    plain = selector(x)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(selector(x), plain)
    assert selector.bfloat16()(x.bfloat16()).dtype == torch.float32


def test_windows_are_scored_by_the_mean_of_their_real_tokens():
    selector, x = predictor(), torch.randn(2, 10 * 9, 16)
    grid = build_window_grid(10, 9, 7, 3, 'cpu')
    means = torch.stack([x[:, row[row < 90]].mean(1) for row in grid.rows], dim=1)
    (scores,) = selector.score_windows(x, [grid])
    torch.testing.assert_close(scores, selector(means))


def test_top_k_decisions_keep_the_number_asked_for_among_the_living():
    selector, scores = predictor(), torch.randn(3, 20)
    alive = (torch.arange(20) < 12).float().expand(3, -1)
    decisions, kept = selector.decide(scores, 5, alive)
    assert decisions.sum(1).tolist() == [5, 5, 5] and kept.shape == (3, 5)
    assert (decisions * (1 - alive)).sum() == 0
    assert torch.equal(decisions.bool().nonzero()[:, 1].view(3, 5), kept.sort(1).values)


def test_free_decisions_differ_in_number_and_never_revive():
    selector = predictor(draw='gumbel')
    alive = (torch.arange(200) < 120).float().expand(4, -1)
    decisions, kept = selector.decide(torch.zeros(4, 200), 5, alive)
    counts = decisions.sum(1)
    assert kept is None and len(set(counts.tolist())) > 1 and 30 < counts.mean() < 90
    assert (decisions * (1 - alive)).sum() == 0


@pytest.mark.parametrize('draw', ['topk', 'gumbel'])
def test_keep_ratios_pull_the_scores(draw):
    selector = predictor(draw=draw)
    scores = torch.zeros(2, 50, requires_grad=True)
    decisions, _ = selector.decide(scores, 25)
    (selector.keep_ratio(scores, decisions) - 0.9).square().sum().backward()
    assert (scores.grad <= 0).all() and scores.grad.abs().sum() > 0, 'too few are wanted, so scores must rise'


def test_a_selector_that_is_sure_of_all_its_units_comes_back():
    """The gradient of the ratio moves all living scores alike, however high they are."""
    scores, alive = torch.tensor([[40.0, 41.0, 43.0, 40.0]], requires_grad=True), torch.tensor([[1.0, 1, 1, 0]])
    ratio = predictor().keep_ratio(scores, None, alive)
    assert ratio.item() == 0.75
    (ratio - 0.5).square().sum().backward()
    assert scores.grad.tolist() == [[scores.grad[0, 0].item()] * 3 + [0]] and scores.grad[0, 0] > 0.01


def test_the_ratio_with_a_fixed_number_is_the_mean_probability_of_the_living():
    scores, alive = torch.randn(2, 6), torch.tensor([[1.0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
    expected = (torch.sigmoid(scores) * alive).sum(1) / 6
    torch.testing.assert_close(predictor().keep_ratio(scores, None, alive), expected)


@pytest.mark.parametrize('learn_from', ['kept', 'all'])
@pytest.mark.parametrize('with_cp', [False, True])
def test_sparse_swin_learns_what_it_keeps(tiny_swin_cfg, with_cp, learn_from):
    selector = PREDICTOR | dict(learn_from=learn_from)
    model = SparseSwin(**tiny_swin_cfg, selector=selector, sparsity=0.5, with_cp=with_cp).train()
    model.init_weights()
    sum(out.square().mean() for out in model(torch.randn(2, 3, 90, 70))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if '.selector.' in name and not name.endswith('out_conv.4.bias'):
            assert parameter.grad.abs().sum() > 0, name
    assert set(model.keep_ratios) == set(model.sites)
    assert all(ratio.shape == (2,) and ratio.requires_grad for ratio in model.keep_ratios.values())
    model.eval()
    with torch.no_grad():
        model(torch.randn(1, 3, 64, 64))
    assert not model.keep_ratios, 'ratios of an earlier forward must not reach a later loss'


@pytest.mark.parametrize('learn_from', ['kept', 'all'])
def test_decisions_do_not_change_what_sparse_swin_computes(tiny_swin_cfg, learn_from):
    selector = PREDICTOR | dict(noise=0, learn_from=learn_from)
    model = SparseSwin(**tiny_swin_cfg, selector=selector, sparsity=(0.3, 0.5, 0.7), drop_path_rate=0.0)
    model.init_weights()
    image = torch.randn(2, 3, 90, 70)
    learning = model.train()(image)
    with torch.no_grad():
        computed = model.eval()(image)
    for a, b in zip(learning, computed):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('learn_from', ['kept', 'all'])
def test_pruned_windows_teach_where_all_are_computed(tiny_swin_cfg, monkeypatch, learn_from):
    selector = PREDICTOR | dict(noise=0, learn_from=learn_from)
    model = SparseSwin(**tiny_swin_cfg, selector=selector, sparsity=0.5, drop_path_rate=0.0).train()
    model.init_weights()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    first, seen = model.stages[0].selector, []
    score = first.score_windows

    def watch(tokens, grids):
        scores = score(tokens, grids)
        scores[0].retain_grad()
        seen.append(scores[0])
        return scores

    monkeypatch.setattr(first, 'score_windows', watch)
    with model.record_selections() as records:
        sum((i + out).square().mean() for i, out in enumerate(model(torch.randn(2, 3, 90, 70)))).backward()
    taught = seen[0].grad != 0
    kept = torch.zeros_like(taught).scatter(1, records[0].kept, True)
    assert torch.equal(taught, kept if learn_from == 'kept' else torch.ones_like(kept))


def test_an_idle_selector_stays_in_the_graph(tiny_swin_cfg):
    model = SparseSwin(**tiny_swin_cfg, selector=PREDICTOR, sparsity=(0.0, 0.5, 0.5)).train()
    sum(out.sum() for out in model(torch.randn(1, 3, 64, 64))).backward()
    idle = dict(model.stages[0].selector.named_parameters())
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in idle.values())


def test_bad_arguments():
    with pytest.raises(
        ValueError, match=r"draw of PredictorSelector must be one of \('topk', 'gumbel', 'batch'\), got 'x'"
    ):
        predictor(draw='x')
    with pytest.raises(ValueError, match=r'embed_dims of PredictorSelector .* 4 at least: 2'):
        predictor(2)
    with pytest.raises(ValueError, match='noise of PredictorSelector must be 0 or more, got -1'):
        predictor(noise=-1)
    with pytest.raises(
        ValueError, match=r"learn_from of PredictorSelector must be one of \('all', 'kept'\), got 'none'"
    ):
        predictor(learn_from='none')
    with pytest.raises(ValueError, match='temperature of PredictorSelector must be above 0, got 0'):
        predictor(temperature=0)
    with pytest.raises(ValueError, match=r"draw='gumbel'.*use draw='topk'"):
        build_window_selector({**PREDICTOR, 'draw': 'gumbel'}, 16)
    with pytest.raises(ValueError, match='ClassAttentionSelector ranks by a class token'):
        build_window_selector(dict(type='sparsevit_mm.ClassAttentionSelector'), 16)
    with pytest.raises(ValueError, match='ClassAttentionSelector needs a backbone with a class token'):
        ClassAttentionSelector()(torch.randn(1, 4, 8))
