import csv

import matplotlib.image
from fabricated import DENSE, MIXED, UNIFORM, make_measured, make_outcome
from search_problem import accuracy

from sparsevit_mm.search.report import REPORT_FILES, table_rows, write_report
from sparsevit_mm.search.report.content import report_content
from sparsevit_mm.search.report.markdown import markdown_text


def text_of(outcome, folder, facts=None, title='demo', **more):
    return markdown_text(report_content(outcome, facts or {}, title, **more), folder)


def rows_of(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_files(tmp_path):
    files = write_report(make_outcome(), tmp_path / 'new', {'Config': 'x.py'}, 'demo')
    assert [path.name for path in files] == list(REPORT_FILES)
    assert sorted(path.name for path in files) == sorted(path.name for path in (tmp_path / 'new').iterdir())
    for name in ('pareto.png', 'sites.png'):
        picture = matplotlib.image.imread(tmp_path / 'new' / name)
        assert min(picture.shape[:2]) > 400 and picture[..., :3].std() > 0.05


def test_tables_say_the_same_as_the_study(tmp_path):
    outcome = make_outcome()
    write_report(outcome, tmp_path, {})
    assert [float(row['mIoU']) for row in rows_of(tmp_path / 'pareto.csv')] == [e.accuracy for e in outcome.front]
    rows = rows_of(tmp_path / 'candidates.csv')
    assert rows[0]['trial'] == 'dense' and rows[0]['within budget'] == '0'
    assert [int(row['trial']) for row in rows[1:]] == [e.number for e in outcome.evaluations]
    assert [int(row['trial']) for row in rows if row['on front'] == '1'] == sorted(e.number for e in outcome.front)
    sites = [tuple(float(row[site]) for site in outcome.sites) for row in rows[1:]]
    assert sites == [e.sparsity for e in outcome.evaluations]
    assert all(row['aAcc'] for row in rows[1:])


class TestBudget:
    def test_names_what_a_reader_must_know(self, tmp_path):
        outcome = make_outcome()
        text = text_of(outcome, tmp_path, {'Scored on': '4 of 8 training images'}, cost={'Measured on': 'a toaster'})
        best, rival = outcome.best, outcome.best_uniform
        assert not best.uniform and rival.uniform
        assert f'Best within the budget: mIoU {best.accuracy:.4g} at {best.cost / 10:.3f} of the dense cost' in text
        assert f'The best uniform setting within it, 0.5, reaches {rival.accuracy:.4g} at 0.550' in text
        assert f'which is {best.accuracy - rival.accuracy:.3g} worse' in text
        assert '| dense | (0, 0, 0) | 60 | 10 MACs | 1.000 |' in text
        assert '- Scored on: 4 of 8 training images' in text and '- Measured on: a toaster' in text
        assert '- Budget: 7 MACs (0.700 of dense)' in text and '- Dense: 10 MACs' in text
        assert '- Settings: 40 over 3 sites' in text and '- Within the budget: 18 settings (45.0%)' in text
        assert '- Least cost: 2.8 MACs (0.280 of dense)' in text and '- Greatest cost: 10 MACs' in text
        evaluated = len(outcome.evaluations)
        assert f'- Candidates: {evaluated + 3} of {evaluated + 3}' in text
        assert f'- Evaluated on all images: {evaluated}, {1.5 * evaluated:.0f} s in all' in text
        assert '- Stopped early: 3 candidates after part of the images, which saved 25% of the evaluation' in text
        assert '- Workers: 2 processes' in text and '2 proposals that were known already' in text
        assert 'numpy' in text and 'Python' in text

    def test_admits_that_nothing_beats_uniform(self, tmp_path):
        text = text_of(make_outcome(UNIFORM), tmp_path)
        assert 'It is a uniform setting: nothing better was found in 2 evaluations' in text

    def test_says_how_cheap_an_equal_setting_is(self, tmp_path):
        text = text_of(make_outcome(score=lambda s: 50.0, settings=[(0.5,) * 3, (0.8,) * 2 + (0.5,)]), tmp_path)
        assert 'The best uniform setting within it, 0.5, is as accurate at 0.550 of the dense cost.' in text

    def test_where_lower_is_better(self, tmp_path):
        outcome = make_outcome(score=lambda s: -accuracy(s) / 10, higher_is_better=False, metric='abs_err')
        text = text_of(outcome, tmp_path)
        assert f'abs_err {outcome.best.accuracy:.4g} at' in text and outcome.best.accuracy == min(
            e.accuracy for e in outcome.evaluations
        )
        assert f'{outcome.best_uniform.accuracy - outcome.best.accuracy:.3g} worse' in text

    def test_without_a_uniform_setting(self, tmp_path):
        assert 'No uniform setting within the budget has been evaluated.' in text_of(make_outcome(MIXED), tmp_path)

    def test_one_site_is_not_compared_with_uniform(self, tmp_path):
        outcome = make_outcome()
        outcome = make_outcome(sites=('block3',), evaluations=tuple(e for e in outcome.evaluations if e.uniform)[:1])
        text = text_of(outcome, tmp_path)
        assert 'Best within the budget' in text and 'uniform setting' not in text.partition('## ')[0]

    def test_table_order(self):
        names = [name for name, _ in table_rows(make_outcome())]
        assert names[:3] == ['dense', 'uniform 0.5', 'uniform 0.8'] and names[-1] == 'found'
        assert set(names[3:-1]) == {'front'}


class TestFront:
    def test_opens_with_both_ends(self, tmp_path):
        outcome = make_outcome(budget=None)
        text = text_of(outcome, tmp_path)
        first, last = outcome.front[0], outcome.front[-1]
        assert f'The front has {len(outcome.front)} settings, from mIoU {first.accuracy:.4g} at 0.280' in text
        assert f'to mIoU {last.accuracy:.4g} at {last.cost / 10:.3f} of the dense cost (dense: 60)' in text
        assert 'None of the sparse settings that were evaluated is as accurate as dense.' in text
        assert 'Budget' not in text and 'Within the budget' not in text

    def test_says_how_many_uniform_settings_lie_on_it(self, tmp_path):
        outcome = make_outcome(budget=None)
        on_it = sum(e.uniform for e in outcome.front)
        assert 0 < on_it < 3
        text = text_of(outcome, tmp_path)
        assert f'Of 3 uniform settings {on_it} lie' in text and 'at no more than their cost it is up to' in text
        assert 'Of 3 uniform settings 3 lie on it.' in text_of(make_outcome(UNIFORM, budget=None), tmp_path)

    def test_names_the_cheapest_as_good_as_dense(self, tmp_path):
        outcome = make_outcome(budget=None, score=lambda s: 60.0 if s[0] == 0 else accuracy(s))
        cheapest = min(e.cost for e in outcome.evaluations if e.sparsity[0] == 0)
        text = text_of(outcome, tmp_path)
        assert f'at least as accurate as dense costs {cheapest / 10:.3f} of it' in text

    def test_table_has_every_setting_of_the_front_by_cost(self):
        outcome = make_outcome(budget=None)
        rows = [(name, e) for name, e in table_rows(outcome) if name.startswith('front')]
        assert [e for _, e in rows] == outcome.front
        assert 'front, uniform 0.8' in [name for name, _ in rows]
        assert 'found' not in [name for name, _ in table_rows(outcome)]


class TestMeasured:
    def test_columns_and_sentences(self, tmp_path):
        outcome = make_outcome(unit='s')
        measured = make_measured(outcome, slower=1.2)
        text = text_of(outcome, tmp_path, measured=measured)
        share = 1.2 * outcome.best.cost / 10
        assert f'| {measured[2].median * 1e3:.4g} ms' in text
        assert f'({measured[2].q1 * 1e3:.4g} to {measured[2].q3 * 1e3:.4g}) | {share:.3f} |' in text
        assert f'{share:.3f} of dense (predicted {outcome.best.cost / 10:.3f})' in text
        assert f'{share / 0.7 - 1:.1%} over the budget of 0.700' in text

    def test_no_columns_without(self, tmp_path):
        assert 'measured' not in text_of(make_outcome(), tmp_path).lower()


def test_samples_and_commands(tmp_path):
    (tmp_path / 'samples').mkdir()
    sample = tmp_path / 'samples' / '1_street.jpg'
    sample.write_bytes(b'picture')
    commands = [('Go on', 'python tools/search_sparsity.py a b --resume')]
    missing = tmp_path / 'samples' / '2_gone.jpg'
    write_report(make_outcome(), tmp_path, {}, samples=[sample, missing], commands=commands)
    text = (tmp_path / 'report.md').read_text()
    assert '](<samples/1_street.jpg>)' in text and '2_gone' not in text
    assert 'Go on:\n\n```bash\npython tools/search_sparsity.py a b --resume\n```' in text


def test_warning_is_at_the_top(tmp_path):
    text = text_of(make_outcome(), tmp_path, {'Seed': '0', 'Warning': 'latencies vary'})
    assert text.index('**Warning:** latencies vary') < text.index('## What was found')
    assert text.count('latencies vary') == 1


def test_names_do_not_break_the_table(tmp_path):
    text = text_of(make_outcome(metric='a|b'), tmp_path, title='<i>x')
    head = next(line for line in text.splitlines() if line.startswith('| setting'))
    assert 'a\\|b' in head and '# Sparsity search: &lt;i>x' in text


def test_before_the_first_evaluation(tmp_path):
    outcome = make_outcome(settings=[])
    files = write_report(outcome, tmp_path, {})
    assert 'Nothing within the budget is evaluated yet' in (tmp_path / 'report.md').read_text()
    assert 'sites.png' not in [path.name for path in files]
    assert 'Nothing is evaluated yet' in text_of(make_outcome([], budget=None, dense=False), tmp_path)


def test_dense_alone_is_a_front(tmp_path):
    assert 'One setting is both the cheapest and the best' in text_of(make_outcome([DENSE], budget=None), tmp_path)
