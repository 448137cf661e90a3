import math
import random
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from sparsevit_mm.sparsity import SparsityLayout, SparsitySpace, keep_count

SWIN_T = SparsityLayout(
    ('stage1.pair1', 'stage2.pair1', 'stage3.pair1', 'stage3.pair2', 'stage3.pair3', 'stage4.pair1'), (1, 1, 3, 1)
)


def test_keep_count_is_exact_for_every_decimal_sparsity():
    for units in range(1, 2000):
        for percent in range(0, 100, 5):
            exact = math.floor(units * (1 - Fraction(percent, 100)))
            assert keep_count(units, percent / 100) == max(1, exact)


@pytest.mark.parametrize(('units', 'sparsity', 'kept'), [(260, 0.8, 52), (4, 0.8, 1), (10, 0.9, 1), (1, 0.99, 1)])
def test_keep_count_of_known_float_traps(units, sparsity, kept):
    assert keep_count(units, sparsity) == kept


def test_normalize_takes_floats_sequences_and_arrays():
    assert SWIN_T.normalize(0.5) == (0.5,) * 6
    assert SWIN_T.normalize(0) == (0.0,) * 6
    vector = (0.6, 0.0, 0.2, 0.4, 0.5, 0.0)
    assert SWIN_T.normalize(list(vector)) == vector
    assert SWIN_T.normalize(np.array(vector)) == vector


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        ((0.1, 0.2), r'2 values .* 6 sites.*stage1\.pair1'),
        (1.0, r'stage1\.pair1 is 1\.0.*\[0, 1\)'),
        (-0.1, r'must lie in \[0, 1\)'),
        (float('nan'), r'is nan.*must lie in'),
        ((0, 0, 0.4, 0.2, 0.5, 0), r'stage3\.pair2 has 0\.2 after stage3\.pair1 with 0\.4.*ascending'),
        ('0.5', 'must be a float for all sites or a sequence'),
        ((0, 0, None, 0, 0, 0), 'must be a float for all sites or a sequence'),
        (None, 'must be a float for all sites or a sequence'),
        (True, 'must be a float for all sites or a sequence'),
    ],
)
def test_normalize_says_what_is_wrong(value, message):
    with pytest.raises(ValueError, match=message):
        SWIN_T.normalize(value)


def test_space_of_swin_t_has_the_published_size():
    space = SparsitySpace(SWIN_T)
    assert len(space) == 9**3 * math.comb(11, 3) == 120_285
    assert sum(1 for _ in SparsitySpace(SWIN_T, (0, 0.5, 0.8))) == len(SparsitySpace(SWIN_T, (0, 0.5, 0.8))) == 270


def test_sampling_is_uniform_over_allowed_vectors():
    space = SparsitySpace(SparsityLayout(('a', 'b', 'c'), (1, 2)), (0.0, 0.3, 0.6))
    rng = random.Random(0)
    draws = Counter(space.sample(rng) for _ in range(18_000))
    assert set(draws) == set(space)
    expected = 18_000 / len(space)
    # Chi-squared with 17 degrees of freedom stays below 40.8 with probability 0.999.
    assert sum((count - expected) ** 2 / expected for count in draws.values()) < 40.8


def test_membership():
    space = SparsitySpace(SWIN_T)
    assert (0.6, 0, 0.2, 0.4, 0.5, 0) in space
    assert (0.6, 0, 0.4, 0.2, 0.5, 0) not in space
    assert (0.65, 0, 0, 0, 0, 0) not in space
    assert all(vector in space for vector in space.uniform())


@pytest.mark.parametrize('choices', [(), (0.5, 0.5), (0.5, 1.0), (-0.1,)])
def test_bad_choices(choices):
    with pytest.raises(ValueError, match='choices must be distinct values'):
        SparsitySpace(SWIN_T, choices)


@pytest.mark.parametrize('module', ['sparsevit_mm', 'sparsevit_mm.sparsity', 'sparsevit_mm.search'])
def test_search_and_vocabulary_do_without_torch(module):
    code = (
        'import sys\n'
        'for name in ("torch", "mmcv", "mmdet", "mmseg", "mmdet3d"): sys.modules[name] = None\n'
        f'import {module}\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
