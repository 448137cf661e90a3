import torch

from sparsevit_mm.ops import rank_units


def test_ties_go_to_the_lower_index():
    scores = torch.tensor([[1.0, 3.0, 1.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    assert rank_units(scores).tolist() == [[1, 3, 4, 0, 2], [0, 1, 2, 3, 4]]


def test_many_ties_on_a_large_map():
    scores = torch.randint(0, 4, (2, 5000)).float()
    ranks = rank_units(scores)
    for image in range(2):
        expected = sorted(range(5000), key=lambda i: (-scores[image, i].item(), i))
        assert ranks[image].tolist() == expected
