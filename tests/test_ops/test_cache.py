import copy
import pickle

import torch

from sparsevit_mm.ops import IndexCache
from sparsevit_mm.ops.cache import keep_cached_values


def test_cache_is_bounded_and_forgets_the_oldest():
    cache = IndexCache(max_items=2)
    built = []
    for key in (1, 2, 1, 3, 1, 2):
        cache.get(key, lambda key=key: built.append(key) or key)
    assert built == [1, 2, 3, 2] and len(cache) == 2


def test_values_of_inference_mode_can_be_trained_with():
    cache = IndexCache()
    with torch.inference_mode():
        value = cache.get('key', lambda: torch.ones(3))
    assert not value.is_inference()
    weight = torch.ones(3, requires_grad=True)
    (weight * value).sum().backward()
    assert torch.equal(weight.grad, torch.ones(3))


def test_nothing_outlives_a_trace():
    cache = IndexCache()
    torch.jit.trace(lambda x: x + cache.get('key', lambda: torch.ones(3)), torch.zeros(3), check_trace=False)
    assert len(cache) == 0


def test_copies_and_pickles_start_empty():
    cache = IndexCache(max_items=5)
    cache.get('key', lambda: torch.ones(3))
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert len(other) == 0 and other.max_items == 5


def test_what_is_given_can_be_kept_beyond_the_cache():
    cache = IndexCache(max_items=1)
    cache.get('before', lambda: 0)
    with keep_cached_values() as kept:
        for key in ('a', 'b', 'a', 'a'):
            cache.get(key, lambda key=key: [key])
    cache.get('after', lambda: 0)
    assert kept == [['a'], ['b'], ['a'], ['a']] and kept[2] is kept[3] and kept[0] is not kept[2]
