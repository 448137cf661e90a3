import pytest
import torch
from torch import nn

from sparsevit_mm.cost import conditions
from sparsevit_mm.cost.conditions import (
    autocast,
    check_device,
    check_dtype,
    check_image_shape,
    measuring,
    random_images,
)

CPU = torch.device('cpu')


def test_device_must_be_known():
    assert check_device('cpu') == CPU
    for wrong in ('gpu', 'meta', 3.5):
        with pytest.raises(ValueError, match="device must be 'cpu', 'cuda'"):
            check_device(wrong)


def test_missing_cuda_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match=r"sees no CUDA device here. Use device 'cpu'"):
        check_device('cuda')


def test_cuda_index_out_of_range(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    with pytest.raises(ValueError, match='there are 2 CUDA devices'):
        check_device('cuda:2')


def test_dtype_must_be_known():
    assert check_dtype(torch.float32, CPU) == 'float32'
    with pytest.raises(ValueError, match=r'one of float32, bfloat16, float16, got .int8'):
        check_dtype('int8', CPU)


def test_dtype_that_autocast_ignores_is_refused(monkeypatch):
    # Older torch warns and computes in float32.
    monkeypatch.setattr(conditions, 'autocast', lambda device, dtype: torch.autocast('cpu', enabled=False))
    with pytest.raises(ValueError, match=r'float16 is not supported by autocast on cpu.*Use float32 or bfloat16'):
        check_dtype('float16', CPU)


@pytest.mark.parametrize('shape', [(0, 5), (5,), (5.0, 5), 'ab', 7])
def test_shape_must_be_two_positive_integers(shape):
    with pytest.raises(ValueError, match='shape must be two positive integers'):
        check_image_shape(shape)


def test_batch_must_be_positive():
    with pytest.raises(ValueError, match='batch must be a positive integer, got 0'):
        check_image_shape((8, 8), 0)


def test_float32_leaves_an_outer_autocast():
    matrix = torch.ones(4, 4)
    with torch.autocast('cpu', dtype=torch.bfloat16), autocast(CPU, 'float32'):
        assert (matrix @ matrix).dtype == torch.float32
    with autocast(CPU, 'bfloat16'):
        assert (matrix @ matrix).dtype == torch.bfloat16


class _Sparse(nn.Sequential):
    sparsity = 0.2


def test_measuring_restores_after_an_error():
    module = _Sparse(nn.Linear(2, 2), nn.Dropout(), nn.BatchNorm1d(2))
    module[2].eval()
    weight = module[0].weight
    with pytest.raises(RuntimeError, match='halt'), measuring(module, CPU):
        assert not any(child.training for child in module.modules())
        assert not torch.is_grad_enabled()
        module.sparsity = 0.7
        raise RuntimeError('halt')
    assert [child.training for child in module.modules()] == [True, True, True, False]
    assert module[0].weight is weight
    assert module.sparsity == 0.2
    assert torch.is_grad_enabled()


def test_random_images_fit_the_module_and_leave_the_generator():
    module = nn.Conv2d(5, 1, 3).double()
    before = torch.get_rng_state()
    images = random_images(module, (6, 7), batch=2)
    assert images.shape == (2, 5, 6, 7) and images.dtype == torch.float64
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(images, random_images(module, (6, 7), batch=2))
