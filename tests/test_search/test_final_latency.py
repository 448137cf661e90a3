import pytest
from fabricated import DENSE, UNIFORM, make_measured, make_outcome

from sparsevit_mm.models import SparseSwin
from sparsevit_mm.search.report.final_latency import latency_sentences, measure_final, settings_to_measure
from sparsevit_mm.search.results import Measured


def test_what_is_worth_measuring():
    outcome = make_outcome()
    assert settings_to_measure(outcome) == (DENSE, (0.5,) * 3, outcome.best.sparsity)
    assert settings_to_measure(make_outcome(UNIFORM)) == (DENSE, (0.5,) * 3)
    assert settings_to_measure(make_outcome([])) == (DENSE,)


def test_of_a_long_front_both_ends_and_some_between():
    ramp = [(round(i * 0.008, 3),) * 3 for i in range(100)]
    outcome = make_outcome(ramp, budget=None)
    chosen = settings_to_measure(outcome)
    assert len(chosen) == 8 and chosen[0] == DENSE
    assert outcome.front[0].sparsity in chosen and outcome.front[-1].sparsity in chosen


def test_measures_the_backbone_and_gives_it_back():
    backbone = SparseSwin(embed_dims=8, depths=(2, 2), num_heads=(1, 2), strides=(4, 2), out_indices=(0, 1))
    backbone.sparsity = (0.1, 0.2)
    measured = measure_final(backbone, (64, 64), [0.0, (0.5, 0.8)], rounds=3)
    assert [m.sparsity for m in measured] == [(0.0, 0.0), (0.5, 0.8)]
    assert all(0 < m.q1 <= m.median <= m.q3 for m in measured)
    assert backbone.sparsity == (0.1, 0.2)
    (whole,) = measure_final(backbone, (64, 64), [0.8], rounds=2, rest=5.0)
    assert 5 < whole.q1 <= whole.median <= whole.q3 < 6


class TestSentences:
    def text(self, outcome, measured):
        return ' '.join(latency_sentences(outcome, measured))

    def test_within_the_budget(self):
        outcome = make_outcome(unit='s')
        text = self.text(outcome, make_measured(outcome, slower=0.9))
        share = outcome.best.cost / 10
        assert f'{0.9 * share:.3f} of dense (predicted {share:.3f}): within the budget of 0.700.' in text
        assert 'The best uniform setting takes 0.550.' in text and 'over the budget' not in text

    def test_over_the_budget(self):
        outcome = make_outcome(unit='s')
        text = self.text(outcome, make_measured(outcome, slower=1.5))
        assert f'{1.5 * outcome.best.cost / 10 / 0.7 - 1:.1%} over the budget of 0.700.' in text

    def test_over_the_budget_by_less_than_the_spread(self):
        outcome = make_outcome(unit='s')
        slower = 7.0 * 1.005 / outcome.best.cost
        text = self.text(outcome, make_measured(outcome, slower))
        assert '0.5% over the budget of 0.700, within the spread of the measurement.' in text

    def test_another_speed_than_at_the_beginning(self):
        outcome = make_outcome(unit='s', dense_cost=8e-3, limit=5.6e-3)
        assert 'Dense itself took 25% longer' in self.text(outcome, make_measured(outcome))
        outcome = make_outcome(unit='s', dense_cost=10.2e-3, limit=7e-3)
        assert 'Dense itself' not in self.text(outcome, make_measured(outcome))

    def test_counted_in_macs(self):
        outcome = make_outcome()
        text = self.text(outcome, make_measured(outcome))
        assert f'of dense (MACs: {outcome.best.cost / 10:.3f}).' in text and 'budget' not in text

    def test_found_is_uniform(self):
        outcome = make_outcome(UNIFORM, unit='s')
        assert 'The best uniform' not in self.text(outcome, make_measured(outcome))

    def test_front(self):
        outcome = make_outcome(budget=None, unit='s')
        cheap, dear = outcome.front[0], outcome.front[-2]
        factors = [(DENSE, 10.0, 1.0), (cheap.sparsity, cheap.cost, 0.8), (dear.sparsity, dear.cost, 1.0)]
        measured = [Measured(s, cost * factor, cost, cost) for s, cost, factor in factors]
        assert '2 settings of the front departed' in self.text(outcome, measured)
        assert 'by 12.5% in the median and 25.0% at most' in self.text(outcome, measured)

    @pytest.mark.parametrize('number', [0, 1])
    def test_nothing_to_say(self, number):
        outcome = make_outcome(unit='s')
        assert latency_sentences(outcome, make_measured(outcome)[2 : 2 + number]) == []
        assert latency_sentences(make_outcome([], unit='s'), make_measured(outcome)) == []
