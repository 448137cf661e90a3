import pytest
import torch
from torch import nn

from sparsevit_mm.cost.training_step import measuring_training, training_call
from sparsevit_mm.models import SparseSwin

CPU = torch.device('cpu')
TINY = dict(embed_dims=16, num_heads=(1, 2), depths=(2, 2), strides=(4, 2), out_indices=(0, 1))


def test_a_step_is_forward_and_backward_in_training_mode():
    backbone = SparseSwin(**TINY, sparsity=0.5, drop_path_rate=0.2).eval()
    reached, seen = set(), []
    for name, parameter in backbone.named_parameters():
        parameter.register_hook(lambda gradient, name=name: reached.add(name))
    backbone.register_forward_hook(lambda module, inputs, outputs: seen.append(module.training))
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with torch.no_grad(), measuring_training(backbone, CPU):
        call = training_call(backbone, torch.randn(2, 3, 64, 64), 'float32')
        call()
        assert all(parameter.grad is None for parameter in backbone.parameters())
    assert seen == [True] and reached == {name for name, _ in backbone.named_parameters()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert not backbone.training and backbone.sparsity == (0.5, 0.5)


def test_arithmetic_is_that_of_autocast():
    layer, seen = nn.Conv2d(3, 4, 3), []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    training_call(layer, torch.randn(1, 3, 8, 8), 'bfloat16')()
    assert seen == [torch.bfloat16]


def test_gradients_statistics_and_generator_come_back_also_after_an_error():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    module[0].weight.grad = gradient = torch.ones_like(module[0].weight)
    state, mean = torch.get_rng_state(), module[1].running_mean.clone()
    with pytest.raises(RuntimeError, match='halt'), measuring_training(module, CPU):
        training_call(module, torch.randn(2, 3, 8, 8), 'float32')()
        assert not torch.equal(module[1].running_mean, mean)
        raise RuntimeError('halt')
    assert torch.equal(module[1].running_mean, mean) and torch.equal(torch.get_rng_state(), state)
    assert module[0].weight.grad is gradient and module[0].bias.grad is None


def test_every_tensor_of_the_outputs_has_a_part_in_the_loss():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return {'maps': (self.first(x), [self.second(x)])}

    module, reached = Two(), []
    module.first.bias.register_hook(lambda gradient: reached.append('first'))
    module.second.bias.register_hook(lambda gradient: reached.append('second'))
    training_call(module, torch.randn(1, 3, 4, 4), 'float32')()
    assert sorted(reached) == ['first', 'second']
