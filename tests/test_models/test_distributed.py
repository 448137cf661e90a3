"""Two real processes: gradients are averaged, selections belong to the images, no parameter is unused."""

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel
from two_processes import run_in_two_processes

from sparsevit_mm.models import SparseSwin

TINY = dict(embed_dims=16, depths=(2, 3), num_heads=(2, 4), strides=(4, 2), out_indices=(0, 1), drop_path_rate=0.0)
SPARSITY = (0.5, 0.2, 0.6)


def _model(with_cp: bool = False) -> SparseSwin:
    torch.manual_seed(0)
    model = SparseSwin(**TINY, sparsity=SPARSITY, with_cp=with_cp)
    model.init_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.train()


def _images() -> torch.Tensor:
    return torch.randn(4, 3, 100, 120, generator=torch.Generator().manual_seed(1))


def _loss(outs) -> torch.Tensor:
    return sum(out.square().mean() for out in outs)


def _work(rank: int, with_cp: bool, folder: str) -> None:
    model = DistributedDataParallel(_model(with_cp))
    for _ in range(2):
        model.zero_grad()
        with model.module.record_selections() as records:
            _loss(model(_images()[2 * rank : 2 * rank + 2])).backward()
    torch.save(
        ({n: p.grad for n, p in model.module.named_parameters()}, [record.kept for record in records]),
        f'{folder}/{rank}.pth',
    )


@pytest.mark.parametrize('with_cp', [False, True])
def test_two_processes_equal_one(tmp_path, with_cp):
    run_in_two_processes(_work, with_cp, str(tmp_path))
    parts = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    model = _model()
    with model.record_selections() as records:
        outs = model(_images())
    _loss(outs).backward()
    count = len(list(model.stages[0].blocks)) + len(list(model.stages[1].blocks))
    for i, record in enumerate(records[:count]):
        assert torch.equal(record.kept, torch.cat([part[1][i] for part in parts]))
    for name, parameter in model.named_parameters():
        assert torch.equal(parts[0][0][name], parts[1][0][name])
        torch.testing.assert_close(parts[0][0][name], parameter.grad, atol=1e-6, rtol=1e-3, msg=name)
