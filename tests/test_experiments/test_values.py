import json

import pytest

from sparsevit_mm.experiments import From, Seed
from sparsevit_mm.experiments.values import Unreachable, as_file, digest, fill, from_json, to_json, unreachable

VALUES = {'size': {'0.65': {'shape': to_json((12, 16)), 'ratio': 0.66}, '0.5': unreachable('nothing is so fast')}}


def filled(node, tmp_path, values=VALUES, seed=None):
    return fill(node, {'calibrate': values}.__getitem__, tmp_path, seed)


def test_references_are_filled_in_wherever_they_are(tmp_path):
    node = {'a': [From('calibrate', 'size', '0.65', 'ratio'), 1], 'b': {'c': (From('calibrate', 'size', '0.65'),)}}
    assert filled(node, tmp_path) == {'a': [0.66, 1], 'b': {'c': ({'shape': (12, 16), 'ratio': 0.66},)}}


def test_seed_is_filled_in(tmp_path):
    assert filled([Seed(), {'seed': Seed()}], tmp_path, seed=2) == [2, {'seed': 2}]


def test_file_is_found_where_the_suite_is_now(tmp_path):
    values = {'checkpoint': as_file(tmp_path / 'old' / 'runs' / 'x.pth', tmp_path / 'old')}
    assert values['checkpoint'] == {'file': 'runs/x.pth'}
    there = tmp_path / 'new' / 'runs' / 'x.pth'
    with pytest.raises(ValueError, match=r'x\.pth is gone, which calibrate has left: make that anew by --again'):
        filled(From('calibrate', 'checkpoint'), tmp_path / 'new', values)
    there.parent.mkdir(parents=True)
    there.touch()
    assert filled(From('calibrate', 'checkpoint'), tmp_path / 'new', values) == str(there)


@pytest.mark.parametrize('path', [('size', '0.5'), ('size', '0.5', 'shape')])
def test_what_is_out_of_reach_says_why(tmp_path, path):
    with pytest.raises(Unreachable, match='nothing is so fast'):
        filled(From('calibrate', *path), tmp_path)


def test_what_was_not_found_is_named(tmp_path):
    with pytest.raises(ValueError, match=r'calibrate: width\.0\.65 was not found'):
        filled(From('calibrate', 'width', '0.65'), tmp_path)


def test_tuples_survive_json():
    node = {'scale': (240, 180), 'channels': [1, 2], 'nested': [{'branches': ((64,), (64,))}], 'none': ()}
    again = from_json(json.loads(json.dumps(to_json(node))))
    assert again == node and isinstance(again['scale'], tuple) and isinstance(again['channels'], list)


def test_digest_changes_with_whatever_is_in_it():
    nodes = [
        {'a': 1},
        {'a': 1.5},
        {'a': '1'},
        {'b': 1},
        {'a': [1, 2]},
        {'a': [2, 1]},
        {'a': None},
        {'a': From('x', 'y')},
        {'a': From('x', 'z')},
        {'a': Seed()},
        {0: 1},
    ]
    assert len({digest(node) for node in nodes}) == len(nodes)
    assert digest({'a': (1, 2), 'b': 3}) == digest({'b': 3, 'a': [1, 2]}), 'order of keys and kind of sequence'
