import torch

from sparsevit_mm.ops import fold_tokens, merge_packages, unfold_tokens


def test_a_package_is_the_weighted_mean_of_its_members():
    tokens, weights = torch.randn(2, 5, 3), torch.rand(2, 5)
    weights[0, 2:] = 0
    package, mass = fold_tokens(tokens, weights)
    expected = (weights[0, 0] * tokens[0, 0] + weights[0, 1] * tokens[0, 1]) / (weights[0, 0] + weights[0, 1])
    torch.testing.assert_close(package[0, 0], expected)
    torch.testing.assert_close(mass[:, 0], weights.sum(1))


def test_nothing_folded_is_zero_and_not_undefined():
    tokens = torch.randn(1, 4, 3, requires_grad=True)
    weights = torch.zeros(1, 4, requires_grad=True)
    package, mass = fold_tokens(tokens, weights)
    package.sum().backward()
    assert not package.any() and not mass.any()
    assert tokens.grad.isfinite().all() and weights.grad.isfinite().all()


def test_merging_is_folding_all_at_once():
    tokens, weights = torch.randn(2, 6, 3), torch.rand(2, 6)
    parts = [fold_tokens(tokens[:, part], weights[:, part]) for part in (slice(0, 2), slice(2, 6))]
    merged = merge_packages(*(torch.cat(pair, dim=1) for pair in zip(*parts)))
    for a, b in zip(merged, fold_tokens(tokens, weights)):
        torch.testing.assert_close(a, b)


def test_unfolding_a_package_that_learned_nothing_gives_its_tokens_back():
    tokens, members = torch.randn(2, 5, 3), (torch.rand(2, 2, 5) > 0.5).float()
    assert torch.equal(unfold_tokens(tokens, members, torch.zeros(2, 2, 3)), tokens)


def test_members_get_what_their_package_learned_and_others_nothing():
    members = torch.tensor([[[1.0, 0, 1, 0], [0, 1, 0, 0]]])
    change = torch.tensor([[[1.0, 2.0], [10.0, 20.0]]])
    found = unfold_tokens(torch.zeros(1, 4, 2), members, change)
    assert found.tolist() == [[[1, 2], [10, 20], [1, 2], [0, 0]]]


def test_half_precision_is_summed_in_float32():
    tokens = torch.full((1, 4096, 1), 16.0, dtype=torch.float16)
    package, _ = fold_tokens(tokens, torch.ones(1, 4096))
    assert package.dtype == torch.float16 and package.item() == 16
