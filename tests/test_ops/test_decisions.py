import torch

from sparsevit_mm.ops import keep_mask, perturb, straight_through


def test_the_noise_makes_choices_as_likely_as_their_probability():
    log_odds = torch.tensor([-2.0, 0.0, 1.5]).expand(200_000, 3)
    kept = (perturb(log_odds, generator=torch.Generator().manual_seed(0)) > 0).float().mean(0)
    torch.testing.assert_close(kept, torch.sigmoid(log_odds[0]), rtol=0, atol=0.005)


def test_without_noise_nothing_changes_and_nothing_is_drawn():
    state = torch.get_rng_state()
    log_odds = torch.randn(5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(perturb(log_odds, scale=0), log_odds) and torch.equal(torch.get_rng_state(), state)


def test_the_noise_is_finite_and_repeats_with_its_generator():
    first = perturb(torch.zeros(100_000), generator=torch.Generator().manual_seed(1))
    assert first.isfinite().all()
    assert torch.equal(first, perturb(torch.zeros(100_000), generator=torch.Generator().manual_seed(1)))


def test_straight_through_is_hard_forward_and_soft_backward():
    log_odds = torch.tensor([[0.3, -1.0, 2.0]], requires_grad=True)
    hard = keep_mask(torch.tensor([[2, 0]]), 3)
    decisions = straight_through(hard, log_odds, temperature=0.5)
    assert decisions.tolist() == [[1, 0, 1]]
    decisions.sum().backward()
    soft = torch.sigmoid(log_odds.detach() / 0.5)
    torch.testing.assert_close(log_odds.grad, soft * (1 - soft) / 0.5)
