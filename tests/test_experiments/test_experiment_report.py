"""Tables, claims, plots and the document, from records that are made up."""

import re
from dataclasses import replace

import pytest
from made_up import CLAIM, make_measurement, make_record, make_results, make_suite, measure, row

from sparsevit_mm.experiments import Claim, Run
from sparsevit_mm.experiments.report.chapter import chapter_of
from sparsevit_mm.experiments.report.claims import judge
from sparsevit_mm.experiments.report.document import write_document
from sparsevit_mm.experiments.report.plot import plot_rows
from sparsevit_mm.experiments.report.rows import rows_of
from sparsevit_mm.experiments.report.side_by_side import losses
from sparsevit_mm.experiments.report.table import claims_markdown, rows_markdown, signed

SUITE = make_suite(
    row('dense', 1),
    row('a-0.5', 1, label='a', budget=0.5),
    row('a-0.8', 1, label='a', budget=0.8),
    row('b-0.5', 1, label='b', budget=0.5),
    measure(),
    claims=(CLAIM, Claim('not far below dense', 'a', 'dense', 0.5, -1.0)),
    left_out=('what cannot be.',),
)


@pytest.fixture
def records():
    found, times = [], {}
    for label, budget, metrics, ratio in (
        ('dense', None, (60.0, 61.0, 62.0), 1.0),
        ('a', 0.5, (59.0, 61.0, 60.0), 0.52),
        ('a', 0.8, (60.0, 60.0, 63.0), 0.79),
        ('b', 0.5, (58.0, 60.5, 60.5), 0.5),
    ):
        own, own_times = make_results(label, budget, metrics, ratio, macs=int(ratio * 1e9))
        found += own
        times |= own_times
    return [*found, make_measurement(found, times)]


def rows(records):
    return rows_of(SUITE, {record.key: record for record in records})


def test_rows_are_the_seeds_of_a_label_and_budget_together(records):
    found = rows(records)
    assert [row.name for row in found] == ['dense', 'a, 80%', 'a, 50%', 'b, 50%']
    a = found[2]
    assert a.metrics == {0: 59.0, 1: 61.0, 2: 60.0} and a.mean == 60.0 and a.spread == pytest.approx(1.0)
    assert a.backbone[0] == pytest.approx(0.52) and a.whole[0] == pytest.approx(0.76)


def test_rows_go_by_what_the_suite_says_now(records):
    named = make_suite(row('b-0.5', 1, label='bee', budget=0.4))
    found = rows_of(named, {record.key: record for record in records})
    assert [(row.name, row.metrics[0]) for row in found] == [('bee, 40%', 58.0)]


def test_row_without_a_measurement_has_no_latency(records):
    found = rows(records[:-1])
    assert not any(row.backbone for row in found)
    assert re.search(r'\| a, 50% \| 60\.0 ± 1\.0 \| .* \| – \| – \|', rows_markdown(found, 'mIoU'))


def test_latency_of_a_model_that_was_made_again_since_is_not_used(records):
    fresh, _ = make_results('a', 0.5, (50.0,), 1.0)
    by_key = {record.key: record for record in records} | {fresh[0].key: make_record(**_fields(fresh[0], id='new'))}
    a = next(row for row in rows_of(SUITE, by_key) if row.name == 'a, 50%')
    assert set(a.backbone) == {1, 2} and set(a.metrics) == {0, 1, 2}


def _fields(record, **more):
    return {**record.__dict__, **more}


def test_table_has_mean_spread_and_each_seed(records):
    head, rule, dense, _, a, _ = rows_markdown(rows(records), 'mIoU').splitlines()
    assert head == '|  | mIoU | seeds | MMACs | backbone latency | whole model |'
    assert rule.count('--:') == 5
    assert dense == '| dense | 61.0 ± 1.0 | 60.0, 61.0, 62.0 | 1000 | 1.00 | 1.00 |'
    assert a == '| a, 50% | 60.0 ± 1.0 | 59.0, 61.0, 60.0 | 520 | 0.52 | 0.76 |'


def test_table_says_which_seed_is_missing(records):
    found = rows([record for record in records if record.key != 'a-0.5/seed1'])
    assert '| 59.0, –, 60.0 |' in rows_markdown(found, 'mIoU')


@pytest.mark.parametrize(
    ('least', 'word'),
    [(-3.0, 'holds'), (-0.5, 'holds'), (0.0, 'holds on average'), (0.35, 'does not hold')],
)
def test_claim_holds_for_all_seeds_or_on_average_or_not(records, least, word):
    verdict = judge([Claim('x', 'a', 'b', 0.5, least)], rows(records))[0]
    assert verdict.differences == (1.0, 0.5, -0.5) and verdict.word == word


def test_claim_takes_a_row_without_budget_where_there_is_none_of_it(records):
    verdict = judge([Claim('x', 'a', 'dense', 0.5)], rows(records))[0]
    assert verdict.differences == (-1.0, 0.0, -2.0)


def test_claim_without_results_is_not_known(records):
    verdict = judge([Claim('x', 'a', 'nobody', 0.5)], rows(records))[0]
    assert verdict.word == 'not known' and '| – | – | – | **not known** |' in claims_markdown([verdict])


def test_claim_without_a_measurement_has_no_latencies(records):
    verdict = judge([Claim('x', 'a', 'b', 0.5)], rows(records[:-1]))[0]
    assert verdict.latencies is None and '−0.5 | – | **holds on average** |' in claims_markdown([verdict])


def test_differences_have_signs():
    assert [signed(value) for value in (1.25, -0.5, 0.0, -0.04)] == ['+1.2', '−0.5', '0.0', '0.0']
    assert [signed(value, digits=2) for value in (-0.04, -0.004)] == ['−0.04', '0.00']


def test_plot_is_written_and_refused_without_latencies(records, tmp_path):
    pytest.importorskip('matplotlib')
    out = tmp_path / 'deep' / 'plot.png'
    plot_rows(rows(records), 'mIoU', 'Title', out)
    assert out.stat().st_size > 10_000
    with pytest.raises(ValueError, match='no row has a latency yet'):
        plot_rows(rows(records[:-1]), 'mIoU', 'Title', tmp_path / 'none.png')


def test_document_has_table_plot_and_what_holds(records, tmp_path):
    pytest.importorskip('matplotlib')
    path = tmp_path / 'results' / 'made-up.jsonl'
    chapter = chapter_of(SUITE, path, records, {})
    out = tmp_path / 'docs' / 'results.md'
    files = write_document([chapter], out, tmp_path / 'docs' / 'images')
    text = out.read_text()
    assert files == [out, tmp_path / 'docs' / 'images' / 'results_made-up.png'] and all(f.exists() for f in files)
    assert '![mIoU against latency](images/results_made-up.png)' in text
    assert '[made-up.jsonl](../results/made-up.jsonl)' in text
    assert '| better than b | 50% | ≥ 0.0 | +0.33 | +1.0, +0.5, −0.5 | 0.52 and 0.50 | **holds on average** |' in text
    far = '| not far below dense | 50% | ≥ −1.0 | −1.00 | −1.0, 0.0, −2.0 | 0.52 and 1.00 | **holds on average** |'
    assert far in text
    assert '- Left out: what cannot be.' in text and 'Trained on a CPU, torch 2; commit c; seeds 0, 1, 2' in text


def test_document_says_where_budgets_were_fitted(records, tmp_path):
    values = {'environment': {'device_name': 'another'}}
    fitted = [make_record(name, None, kind='calibrate', values=values) for name in ('calibrate', 'calibrate-b')]
    fitted.append(make_record('former', None, kind='calibrate', values={'environment': {'device_name': 'a third'}}))
    suite = make_suite(*(Run(name, 'calibrate', 'tiny.py') for name in ('calibrate', 'calibrate-b')), *SUITE.runs)
    write_document([chapter_of(suite, tmp_path / 'r', [*fitted, *records], {})], tmp_path / 'r.md', tmp_path)
    assert ' Budgets were fitted on another, commit c. Latencies: a CPU' in (tmp_path / 'r.md').read_text()


def test_document_says_which_seeds_were_trained_where(records, tmp_path):
    here = [record for record in records if record.kind != 'measure']
    there = [
        make_record(
            **_fields(
                record,
                environment={**record.environment, 'device_name': 'another'},
                values={**record.values, 'dtype': 'float32'},
            )
        )
        if record.seed == 2
        else record
        for record in here
    ]
    write_document([chapter_of(SUITE, tmp_path / 'r', there, {})], tmp_path / 'r.md', tmp_path)
    said = (
        'Trained on a CPU, torch 2 (seeds 0, 1) and on another, torch 2, in float32 (seed 2); commit c; seeds 0, 1, 2'
    )
    assert said in (tmp_path / 'r.md').read_text()


def test_results_of_another_recipe_are_named_and_not_in_the_table(records, tmp_path):
    chapter = chapter_of(SUITE, tmp_path / 'r', records, {'b-0.5/seed1': 'another', 'dense/seed0': 'r'})
    assert chapter.old == ['b-0.5/seed1']
    assert set(next(row for row in chapter.rows if row.label == 'b').metrics) == {0, 2}
    out = tmp_path / 'r.md'
    write_document([chapter_of(SUITE, tmp_path / 'r', records[:-1], {'b-0.5/seed1': 'another'})], out, tmp_path)
    assert 'Not in the table, since the suite asks for something else by now: b-0.5/seed1.' in out.read_text()


def test_rows_that_failed_or_were_left_out_are_told_with_their_reason(records, tmp_path):
    records.append(make_record('c', 0, state='left out', error='nothing is so fast'))
    records.append(make_record('step', 0, state='failed', error='no row'))
    records.append(make_record('a-0.5', 0, state='failed', error='later'))
    suite = make_suite(*SUITE.runs, row('c', 1, budget=0.5))
    chapter = chapter_of(suite, tmp_path / 'r', records, {})
    assert chapter.missing == {'c/seed0': 'left out, nothing is so fast'}


def other_chapter(tmp_path, dense='dense, trained as long'):
    """A suite whose results are told by other seeds: 0 and 1."""
    reference, reference_times = make_results(dense, None, (70.0, 71.0), 1.0)
    pruned, times = make_results('c', 0.6, (69.5, 69.5), 0.61)
    claims = (
        Claim('c is worth it', 'c', dense, 0.6, part='search'),
        Claim('no row of it', 'c', 'nobody', part='search'),
        Claim('of no part', 'c', dense, 0.6),
    )
    measured = [row(dense, 1), row('c-0.6', 1, label='c', budget=0.6), measure()]
    suite = make_suite(
        *measured, name='other', title='Other: of a kind', dense=dense, claims=claims, compared=('c', 'not run')
    )
    records = [*reference, *pruned]
    records = [make_record(**_fields(record, suite='other')) for record in records]
    records.append(make_record(**_fields(make_measurement(records, reference_times | times), suite='other')))
    return chapter_of(suite, tmp_path / 'other.jsonl', records, {})


def test_families_are_compared_with_their_own_dense_model(records, tmp_path):
    suite = make_suite(*SUITE.runs, reference='dense', compared=('a',))
    chapters = [chapter_of(suite, tmp_path / 'r', records, {}), other_chapter(tmp_path)]
    found = losses(chapters)
    assert [(chapter.suite.name, row.name) for chapter, row in found] == [
        ('made-up', 'a, 80%'),
        ('other', 'c, 60%'),
        ('made-up', 'a, 50%'),
    ]
    assert [dict(row.metrics) for _, row in found] == [{0: 0, 1: -1, 2: 1}, {0: -0.5, 1: -1.5}, {0: -1, 1: 0, 2: -2}]


def test_document_has_families_and_parts_side_by_side(records, tmp_path):
    pytest.importorskip('matplotlib')
    suite = make_suite(*SUITE.runs, reference='dense', compared=('a',), claims=(replace(CLAIM, part='search'),))
    chapters = [chapter_of(suite, tmp_path / 'r', records, {}), other_chapter(tmp_path)]
    files = write_document(chapters, tmp_path / 'r.md', tmp_path)
    assert tmp_path / 'results_families.png' in files
    text = (tmp_path / 'r.md').read_text()
    other = '[Other: of a kind](#other-of-a-kind)'
    assert f'| c, 60% | {other} | −1.0 ± 0.7 | −0.5, −1.5 | 0.61 | 0.80 |' in text
    assert f'| search | {other} | c | dense, trained as long | 60% | −1.0 ± 0.7 | −0.5, −1.5 | 0.61 and 1.00 |' in text
    assert '| search | [Made up](#made-up) | a | b | 50% | +0.3 ± 0.8 | +1.0, +0.5, −0.5 | 0.52 and 0.50 |' in text
    assert 'nobody' not in text.partition('## Made up')[0]


def test_one_family_alone_is_not_side_by_side(records, tmp_path):
    suite = make_suite(*SUITE.runs, reference='dense', compared=('a',))
    write_document([chapter_of(suite, tmp_path / 'r', records, {})], tmp_path / 'r.md', tmp_path)
    assert 'side by side' not in (tmp_path / 'r.md').read_text()


def test_family_without_its_reference_is_not_compared(tmp_path):
    assert losses([other_chapter(tmp_path, dense='dense')]) == []
