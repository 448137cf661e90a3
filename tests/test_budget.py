import math

import pytest

from sparsevit_mm.budget import Budget, format_cost


@pytest.mark.parametrize(
    ('text', 'unit', 'limit'),
    [
        (0.6, 's', 0.12),
        ('0.6', 's', 0.12),
        ('60%', 'MACs', 0.12),
        ('30ms', 's', 0.03),
        ('1.5 s', 's', 1.5),
        ('60G', 'MACs', 60e9),
        ('4.5 GMACs', 'MACs', 4.5e9),
        ('2e3MACs', 'MACs', 2e3),
    ],
)
def test_parse(text, unit, limit):
    assert Budget.parse(text, unit).limit(0.2) == pytest.approx(limit)


@pytest.mark.parametrize('text', ['1.2', 0, -0.5, math.nan, '0'])
def test_fraction_out_of_range(text):
    with pytest.raises(ValueError, match=r'is a fraction of the dense cost and must lie in \(0, 1\]'):
        Budget.parse(text, 's')


@pytest.mark.parametrize(('text', 'unit'), [('60G', 's'), ('30ms', 'MACs'), ('fast', 's'), ('', 's'), ('1..2', 's')])
def test_unreadable(text, unit):
    with pytest.raises(ValueError, match=f'cannot be read.*costs are in {unit} here'):
        Budget.parse(text, unit)


def test_least_that_can_be_reached_is_named_and_can_be_given():
    with pytest.raises(ValueError, match=r'sparsest setting costs 33\.34 ms.*at least 0\.334') as error:
        Budget(0.2).check(dense=0.1, least=0.03334, unit='s')
    assert 'budget 20 ms (0.2 of dense)' in str(error.value)
    assert Budget(0.334).check(dense=0.1, least=0.03334, unit='s') == pytest.approx(0.0334)


def test_machine_on_which_sparsity_saves_nothing():
    with pytest.raises(ValueError, match=r'1\.1 of the dense 100 ms\. Sparsity saves nothing here'):
        Budget(0.6).check(dense=0.1, least=0.11, unit='s')


@pytest.mark.parametrize(
    ('cost', 'unit', 'shown'),
    [
        (0.01234, 's', '12.34 ms'),
        (4.5e9, 'MACs', '4.5 GMACs'),
        (2.5e12, 'MACs', '2.5 TMACs'),
        (12.0, 'MACs', '12 MACs'),
    ],
)
def test_format(cost, unit, shown):
    assert format_cost(cost, unit) == shown
