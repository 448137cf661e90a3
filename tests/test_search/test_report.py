import csv

import matplotlib.image
import pytest
from search_problem import ExactCost, accuracy

from sparsevit_mm.search import Budget, Evaluation, SparsityStudy
from sparsevit_mm.search.report import report_text, table_rows, write_report


@pytest.fixture
def study(space):
    study = SparsityStudy(space, ExactCost(), Budget(0.7), trials=8)
    study.tell_dense({'mIoU': 60.0, 'aAcc': 80.0})
    return study


@pytest.fixture
def outcome(study):
    while (candidate := study.ask()) is not None:
        study.tell(candidate, {'mIoU': accuracy(candidate.sparsity), 'aAcc': 70.0}, seconds=1.5)
    return study.outcome()


def test_files(outcome, tmp_path):
    files = write_report(outcome, tmp_path / 'new', {'Config': 'x.py'}, 'demo')
    assert sorted(path.name for path in files) == sorted(path.name for path in (tmp_path / 'new').iterdir())
    picture = matplotlib.image.imread(tmp_path / 'new' / 'pareto.png')
    assert min(picture.shape[:2]) > 400 and picture[..., :3].std() > 0.05


def test_tables_say_the_same_as_the_study(outcome, tmp_path):
    write_report(outcome, tmp_path, {})
    with open(tmp_path / 'pareto.csv') as file:
        front = list(csv.DictReader(file))
    assert [float(row['mIoU']) for row in front] == [e.accuracy for e in outcome.front]
    with open(tmp_path / 'candidates.csv') as file:
        rows = list(csv.DictReader(file))
    assert rows[0]['trial'] == 'dense' and rows[0]['within budget'] == '0'
    assert [int(row['trial']) for row in rows[1:]] == [e.number for e in outcome.evaluations]
    assert [int(row['trial']) for row in rows if row['on front'] == '1'] == sorted(e.number for e in outcome.front)
    sites = [tuple(float(row[site]) for site in outcome.sites) for row in rows[1:]]
    assert sites == [e.sparsity for e in outcome.evaluations]
    assert all(row['aAcc'] for row in rows)


def test_text_names_what_a_reader_must_know(outcome):
    text = report_text(outcome, {'Scored on': '4 of 8 training images'}, 'demo')
    best, uniform = outcome.best, max(e.accuracy for e in outcome.uniform)
    assert f'mIoU {best.accuracy:.4g} at {best.cost / outcome.dense_cost:.3f} of the dense cost (dense: 60)' in text
    assert f'The best uniform setting within it, 0.5, reaches {uniform:.4g}' in text
    assert 'Scored on: 4 of 8 training images' in text
    assert 'Evaluations: 8 of 8, 12 s in all, from a space of 40 settings' in text
    assert f'{outcome.over_budget} proposals over budget' in text
    assert 'Budget: 7 MACs (0.700 of dense)' in text
    assert '| dense | (0, 0, 0) | 60 | 10 MACs | 1.000 |' in text


def test_text_admits_that_nothing_beats_uniform(space):
    study = SparsityStudy(space, ExactCost(), Budget(0.7), trials=2)
    while (candidate := study.ask()) is not None:
        study.tell(candidate, accuracy(candidate.sparsity))
    assert 'It is a uniform setting: nothing better was found in 2 evaluations' in report_text(study.outcome(), {})


def test_table_order(outcome):
    names = [name for name, _ in table_rows(outcome)]
    assert names[0] == 'dense' and names[-1] == 'found' and names[1:3] == ['uniform 0.5', 'uniform 0.8']


def test_before_the_first_evaluation(study, tmp_path):
    write_report(study.outcome(), tmp_path, {})
    assert 'Nothing within the budget is evaluated yet' in (tmp_path / 'report.md').read_text()
    assert study.outcome().dense == Evaluation(-1, (0.0,) * 3, 60.0, 10.0, False, {'mIoU': 60.0, 'aAcc': 80.0}, 0.0)
