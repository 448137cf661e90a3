import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sparsevit_mm.cost import Environment
from sparsevit_mm.cost.environment import _cpu_name


def _environment() -> Environment:
    return Environment.current(device='cpu', dtype='float32', batch=2, shape=(800, 1344))


def test_current_records_this_process():
    environment = _environment()
    assert environment.threads == torch.get_num_threads()
    assert environment.torch == torch.__version__
    assert torch.backends.cpu.get_cpu_capability() in environment.device_name
    assert environment.shape == (800, 1344)


@pytest.mark.skipif(not Path('/proc/cpuinfo').is_file(), reason='Linux says so there')
def test_processor_is_told_by_more_than_its_name():
    """Virtual machines call all generations of a processor by one name."""
    text = Path('/proc/cpuinfo').read_text()
    if 'cpu family' not in text:
        pytest.skip('this processor has no family')
    name, other = (_cpu_name(cpuinfo) for cpuinfo in (text, text.replace('cpu family\t:', 'cpu family\t: 9')))
    assert re.search(r'\(.+, family \d+ model \d+\)$', name) and name != other
    assert _environment().device_name == name


def test_json_round_trip():
    environment = _environment()
    assert Environment.from_dict(json.loads(json.dumps(environment.to_dict()))) == environment


@pytest.mark.parametrize('change', [{'threads': 99}, {'dtype': 'bfloat16'}, {'batch': 1}, {'shape': (1, 2)}])
def test_other_conditions_are_not_the_same(change):
    environment = _environment()
    other = replace(environment, **change)
    assert not environment.same_conditions(other)
    assert environment.differences(other) == tuple(change)


def test_python_and_platform_do_not_matter():
    environment = _environment()
    assert environment.same_conditions(replace(environment, python='3.10.0', platform='elsewhere'))


def test_from_dict_refuses_other_fields():
    values = _environment().to_dict()
    values['speed'] = values.pop('threads')
    with pytest.raises(ValueError, match=r'Environment.*missing threads; unknown speed'):
        Environment.from_dict(values)


def test_of_a_device_elsewhere_little_has_to_be_known():
    phone = Environment.elsewhere(device='onnxruntime', device_name='a phone', dtype='int8', batch=1, shape=[48, 64])
    assert phone.describe() == 'a phone, int8, batch 1, 48x64 pixels'
    assert Environment.from_dict(phone.to_dict()) == phone
    with pytest.raises(ValueError, match='missing batch, shape; unknown speed'):
        Environment.elsewhere(device_name='a phone', dtype='int8', speed=3)


def test_describe_names_what_counts():
    text = replace(_environment(), threads=1).describe()
    assert '1 thread,' in text and '800x1344' in text and 'batch 2' in text and 'float32' in text
