"""Whether a table is of this machine."""

from dataclasses import replace

import pytest
import torch
from tables import made_up

from sparsevit_mm.cost import Environment
from sparsevit_mm.cost.table_device import conditions_here


def test_a_table_of_this_machine_is_seen_to_be_one() -> None:
    here = Environment.current(device='cpu', dtype='bfloat16', batch=3, shape=(32, 48))
    table = replace(made_up(), environment=here)
    named = conditions_here(table)
    assert named == dict(device='cpu', device_name=here.device_name, threads=torch.get_num_threads())
    assert conditions_here(table, device='cpu', threads=7)['threads'] == 7


def test_a_device_that_is_not_here_is_said() -> None:
    phone = replace(made_up().environment, device='tensorrt', device_name='a phone')
    with pytest.raises(ValueError, match=r"is of a phone: device must be 'cpu', .*elsewhere is taken with --foreign"):
        conditions_here(replace(made_up(), environment=phone))


@pytest.mark.cuda
def test_threads_are_no_matter_on_cuda() -> None:
    assert set(conditions_here(made_up(), device='cuda')) == {'device', 'device_name'}
