import multiprocessing

import pytest
from made_up import make_measurement, make_record, make_results

from sparsevit_mm.experiments.results_file import ResultsFile, latest, read_records, standing


@pytest.fixture
def file(tmp_path):
    return ResultsFile(tmp_path / 'deep' / 'results.jsonl')


def test_records_come_back_in_their_order(file):
    records = [make_record('a'), make_record('b', None, needs={'a/seed0': 'a-0'}, values={'x': [1, 2.5, None]})]
    for record in records:
        file.append(record)
    assert file.read() == (records, [])


def test_no_file_is_no_records(file):
    assert file.read() == ([], [])


@pytest.mark.parametrize('cut', [1, 30, 200])
def test_half_written_line_is_left_and_the_next_record_gets_its_own(file, cut):
    file.append(make_record('a'))
    file.append(make_record('b'))
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[:-cut] if cut > 1 else whole + b'{"id": "c')
    before = file.path.read_bytes()
    records, remarks = file.read()
    assert [r.run for r in records] == (['a', 'b'] if cut == 1 else ['a'])
    assert len(remarks) == 1 and 'was not written to its end: it is left as it is' in remarks[0]
    file.append(make_record('d'))
    assert file.path.read_bytes().startswith(before), 'nothing is lost'
    assert file.read()[0][-1].run == 'd' and 'is no record' in file.read()[1][0]


def test_line_that_lacks_its_end_alone_counts(file):
    file.append(make_record('a'))
    file.path.write_bytes(file.path.read_bytes()[:-1])
    file.append(make_record('b'))
    assert [record.run for record in file.read()[0]] == ['a', 'b'] and not file.read()[1]


def test_first_line_cut_off_is_no_foreign_file(file):
    file.append(make_record('a'))
    file.path.write_bytes(file.path.read_bytes()[:3])
    assert file.read()[0] == []
    file.append(make_record('b'))
    assert [record.run for record in file.read()[0]] == ['b']


@pytest.mark.parametrize('content', [b'name,value\na,1\n', b'\xff\xfe\x00\n', b'{"some": "json"}\n'])
def test_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / 'other'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='no record of an experiment'):
        read_records(path)
    assert path.read_bytes() == content


def _append(path, run):
    for seed in range(20):
        ResultsFile(path).append(make_record(run, seed, values={'x': 'y' * 5000}))


def test_processes_that_write_at_once_do_not_mix_their_lines(file):
    file.path.parent.mkdir()
    processes = [multiprocessing.get_context('fork').Process(target=_append, args=(file.path, name)) for name in 'abc']
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    records, remarks = file.read()
    assert len(records) == 60 and not remarks


def test_only_what_was_built_on_the_last_results_stands():
    a, again = make_record('a', id='1'), make_record('a', id='2')
    b = make_record('b', id='3', needs={'a/seed0': '1'})
    c = make_record('c', id='4', needs={'b/seed0': '3'})
    assert set(standing([a, b, c])) == {'a/seed0', 'b/seed0', 'c/seed0'}
    assert set(standing([a, b, c, again])) == {'a/seed0'}
    rebuilt = make_record('b', id='5', needs={'a/seed0': '2'})
    assert set(standing([a, b, c, again, rebuilt])) == {'a/seed0', 'b/seed0'}


def test_failures_do_not_hide_an_earlier_result():
    failed = make_record('a', id='2', state='failed', error='x')
    assert latest([make_record('a', id='1'), failed])['a/seed0'].id == '1'
    assert latest([make_record('a', id='1'), failed], ('failed',))['a/seed0'].id == '2'


def test_measurement_stands_though_one_of_its_models_was_made_again():
    records, times = make_results('a', None, [1, 2], 1.0)
    measurement = make_measurement(records, times)
    assert 'measure' in standing([*records, measurement, make_record('a', 0, id='new')])
