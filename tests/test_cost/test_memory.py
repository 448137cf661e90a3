import pytest
import torch

from sparsevit_mm.cost.memory import is_out_of_memory, measure_peak_memory

CPU = torch.device('cpu')
MEGABYTE = 2**20


def _bytes(count: int) -> torch.Tensor:
    return torch.empty(count, dtype=torch.uint8)


def test_counts_what_is_alive_at_once():
    def call() -> None:
        first = _bytes(3 * MEGABYTE)
        del first
        second, third = _bytes(MEGABYTE), _bytes(MEGABYTE)
        del second, third

    assert measure_peak_memory(call, CPU) == 3 * MEGABYTE


def test_result_counts_and_what_was_there_does_not():
    held = _bytes(5 * MEGABYTE)
    assert measure_peak_memory(lambda: held[:MEGABYTE].clone(), CPU) == MEGABYTE


def test_writes_nothing(capfd):
    measure_peak_memory(lambda: _bytes(10), CPU)
    assert capfd.readouterr() == ('', '')


def test_unknown_without_the_profiler(monkeypatch):
    monkeypatch.setattr(torch.autograd.profiler, 'kineto_available', lambda: False)
    assert measure_peak_memory(lambda: _bytes(10), CPU) is None


def test_want_of_memory_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        _bytes(2**60)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.cuda.OutOfMemoryError('CUDA out of memory')) and is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError('mat1 and mat2 shapes cannot be multiplied'))
    assert not is_out_of_memory(ValueError('DefaultCPUAllocator'))
