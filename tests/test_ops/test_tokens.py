import torch

from sparsevit_mm.ops import gather_tokens, put_tokens


def test_what_is_gathered_and_put_back_changes_nothing():
    tokens = torch.randn(3, 10, 4)
    index = torch.stack([torch.randperm(10)[:6] for _ in range(3)])
    gathered = gather_tokens(tokens, index)
    torch.testing.assert_close(gathered, torch.stack([t[i] for t, i in zip(tokens, index)]), rtol=0, atol=0)
    assert torch.equal(put_tokens(tokens.clone(), index, gathered), tokens)


def test_only_the_named_places_change():
    tokens, index = torch.zeros(2, 5, 3), torch.tensor([[4, 1], [0, 2]])
    result = put_tokens(tokens, index, torch.ones(2, 2, 3))
    assert result.sum(-1).tolist() == [[0, 3, 0, 0, 3], [3, 0, 3, 0, 0]]
    assert torch.equal(result, tokens), 'written in place'


def test_gradients_pass_through_both():
    tokens = torch.randn(2, 6, 3, requires_grad=True)
    index = torch.tensor([[0, 5], [2, 3]])
    put_tokens(tokens.clone(), index, 2 * gather_tokens(tokens, index)).sum().backward()
    assert tokens.grad[:, :, 0].tolist() == [[2, 1, 1, 1, 1, 2], [1, 1, 2, 2, 1, 1]]
