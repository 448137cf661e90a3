"""Latency as a cost: where its table comes from, what a setting costs by it, and what a worker must share."""

import json
import random
import time
from dataclasses import replace

import pytest

from sparsevit_mm.cost import Environment, LatencyTable, measure_table
from sparsevit_mm.cost.backbone_identity import BackboneIdentity
from sparsevit_mm.cost.model_rest import ModelRest
from sparsevit_mm.cost.table_entries import CheckedSetting, SiteLatency
from sparsevit_mm.models import SparseSwin
from sparsevit_mm.search.costs import TableCost, table_source
from sparsevit_mm.search.costs.table_source import TABLE_FILE

CHOICES = (0.0, 0.4, 0.8)
SHAPE = (64, 96)
QUICK = dict(choices=CHOICES, check=2, rounds=1)


@pytest.fixture
def backbone(tiny_swin_cfg):
    return SparseSwin(**tiny_swin_cfg)


def made_up(backbone, environment=None, **changes):
    """A table of this process: the sites take 10, 20 and 30 ms dense, and 60 % less at most; the rest takes 5 ms."""
    times = ([0.001 * size * part for part in (10, 7, 4)] for size in (1, 2, 3))
    table = LatencyTable(
        backbone=BackboneIdentity.of(backbone),
        environment=environment or Environment.current(device='cpu', dtype='float32', batch=1, shape=SHAPE),
        choices=CHOICES,
        sites=tuple(SiteLatency(tuple(values)) for values in times),
        rest=0.005,
    )
    return replace(table, **changes)


@pytest.fixture
def file(backbone, tmp_path):
    path = tmp_path / 'given.json'
    made_up(backbone).save(path)
    return path


@pytest.fixture
def measured(monkeypatch):
    """Counts the passes that are timed of any table."""
    timed = []
    rounds = measure_table._rounds

    def counted(*args):
        timed.append(args)
        return rounds(*args)

    monkeypatch.setattr(measure_table, '_rounds', counted)
    return timed


class TestGivenTable:
    def test_a_setting_costs_what_the_table_has(self, backbone, file):
        cost = TableCost(backbone, SHAPE, choices=CHOICES, table=file)
        state = cost.calibrate()
        assert state['dense'] == cost.cost(0.0) == cost.cost((0, 0, 0)) == pytest.approx(0.065)
        assert cost.cost((0.8, 0.0, 0.4)) == pytest.approx(0.004 + 0.020 + 0.021 + 0.005)
        table, rng = LatencyTable.load(file), random.Random(0)
        for sparsity in [backbone.sparsity_space(CHOICES).sample(rng) for _ in range(20)]:
            assert cost.cost(sparsity) == table.predict(sparsity)
        assert cost.cost((0.2, 0.1, 0.3)) == table.predict((0.2, 0.1, 0.3)), 'between choices too'

    def test_nothing_is_measured(self, backbone, file, measured, tmp_path):
        TableCost(backbone, SHAPE, choices=CHOICES, table=file, folder=tmp_path / 'work').calibrate()
        assert not measured and not (tmp_path / 'work').exists()

    def test_a_cost_is_a_look_up(self, backbone, file):
        cost = TableCost(backbone, SHAPE, choices=CHOICES, table=file)
        cost.calibrate()
        start = time.process_time()
        for _ in range(2000):
            cost.cost((0.4, 0.0, 0.8))
        assert (time.process_time() - start) / 2000 < 50e-6

    def test_settings_that_are_none_are_refused(self, backbone, file):
        cost = TableCost(backbone, SHAPE, choices=CHOICES, table=file)
        cost.calibrate()
        with pytest.raises(ValueError, match='must not decrease within a stage'):
            cost.cost((0.0, 0.4, 0.0))
        with pytest.raises(ValueError, match=r'sparsity of stage2\.pair2 is 0\.9, .* measure one with greater choices'):
            cost.cost((0.0, 0.0, 0.9))

    def test_what_is_not_named_is_that_of_the_table(self, backbone, file):
        environment = replace(made_up(backbone).environment, batch=4, dtype='bfloat16')
        made_up(backbone, environment).save(file)
        conditions = TableCost(backbone, None, choices=CHOICES, table=file).conditions()
        assert conditions.pop('table') and conditions == {
            'shape': list(SHAPE), 'batch': 4, 'dtype': 'bfloat16', 'device': 'cpu', 'whole_model': False,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ('asked', 'message'),
        [
            (dict(shape=(64, 64)), 'shape: 64x96 in the table, 64x64 wanted'),
            (dict(batch=2), 'batch: 1 in the table, 2 wanted'),
            (dict(dtype='bfloat16'), 'dtype: float32 in the table, bfloat16 wanted'),
            (dict(device='cuda'), 'device: cpu in the table, cuda wanted'),
            (dict(choices=(0.0, 0.5, 0.9)), r'given\.json.* up to sparsity 0\.8, but the search may choose 0\.9'),
            (dict(table='none.json'), r"latency table 'none\.json' cannot be read: .*No such file"),
        ],
    )
    def test_one_that_does_not_fit_is_refused_at_once(self, backbone, file, asked, message):
        with pytest.raises(ValueError, match=message):
            TableCost(backbone, **dict(shape=SHAPE, choices=CHOICES, table=file) | asked)

    def test_one_of_another_backbone_is_refused(self, tiny_swin_cfg, file):
        other = SparseSwin(**tiny_swin_cfg | dict(embed_dims=32))
        with pytest.raises(ValueError, match='differs in widths'):
            TableCost(other, SHAPE, choices=CHOICES, table=file)

    def test_one_of_another_device_must_be_said_to_be_foreign(self, backbone, file):
        phone = replace(made_up(backbone).environment, device='tensorrt', device_name='a phone', dtype='int8')
        made_up(backbone, phone).save(file)
        with pytest.raises(ValueError, match=r'is of a phone: .*device must be .* give --foreign'):
            TableCost(backbone, SHAPE, choices=CHOICES, table=file).calibrate()
        cost = TableCost(backbone, SHAPE, choices=CHOICES, table=file, device='cpu', foreign=True)
        assert cost.calibrate()['dense'] == pytest.approx(0.065)
        assert cost.conditions()['device'] == 'tensorrt' and cost.conditions()['dtype'] == 'int8'
        assert cost.describe()['Latency table'].startswith('a phone, int8, batch 1, 64x96 pixels')

    def test_so_must_one_of_another_processor(self, backbone, file):
        environment = replace(made_up(backbone).environment, device_name='a faster one', threads=99)
        made_up(backbone, environment).save(file)
        with pytest.raises(ValueError, match=r'a faster one in the table.*threads: 99 in the table.* give --foreign'):
            TableCost(backbone, SHAPE, choices=CHOICES, table=file).calibrate()

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            (dict(foreign=True), 'foreign is about the device of a latency table: give one by --latency-table'),
            (dict(shape=None), 'shape is missing'),
        ],
    )
    def test_options_that_need_a_table(self, backbone, options, message):
        with pytest.raises(ValueError, match=message):
            TableCost(backbone, **dict(shape=SHAPE) | options)

    def test_a_whole_model_cannot_be_measured_for_a_foreign_device(self, backbone, file):
        with pytest.raises(ValueError, match='leave out --whole-model, or --foreign'):
            TableCost(backbone, SHAPE, choices=CHOICES, table=file, foreign=True, whole_model=backbone)


class TestMeasuredTable:
    def test_it_is_measured_once_and_kept(self, backbone, tmp_path, measured):
        backbone.sparsity = 0.5
        progress = []
        cost = TableCost(backbone, SHAPE, folder=tmp_path, progress=lambda *done: progress.append(done), **QUICK)
        state = cost.calibrate()
        kept = LatencyTable.load(tmp_path / TABLE_FILE)
        assert kept == cost.table == LatencyTable.from_dict(json.loads(json.dumps(state))['table'])
        assert state['dense'] == kept.dense == cost.cost(0.0) and kept.choices == CHOICES and len(kept.check) == 2
        assert progress[-1] == (6, 6) and len(progress) == 6, '4 staircases and 2 settings to check'
        assert set(backbone.sparsity) == {0.5}
        assert TableCost(backbone, SHAPE, folder=tmp_path, **QUICK).calibrate() == state and len(measured) == 1

    @pytest.mark.parametrize(
        'change',
        [
            dict(shape=(64, 64)),
            dict(batch=2),
            dict(dtype='bfloat16'),
            dict(choices=(0.0, 0.8)),
            dict(check=3),
            dict(rounds=2),
        ],
    )
    def test_one_of_other_conditions_is_not_taken_up(self, backbone, tmp_path, measured, change):
        TableCost(backbone, SHAPE, folder=tmp_path, **QUICK).calibrate()
        TableCost(backbone, folder=tmp_path, **dict(shape=SHAPE, **QUICK) | change).calibrate()
        assert len(measured) == 2

    @pytest.mark.parametrize('text', ['', '{"format": 3}'])
    def test_nor_is_a_damaged_one(self, backbone, tmp_path, measured, text):
        (tmp_path / TABLE_FILE).write_text(text)
        cost = TableCost(backbone, SHAPE, folder=tmp_path, **QUICK)
        cost.calibrate()
        assert len(measured) == 1 and LatencyTable.load(tmp_path / TABLE_FILE) == cost.table

    def test_nor_one_of_another_machine_or_backbone(self, backbone, tiny_swin_cfg, tmp_path, measured):
        cost = TableCost(backbone, SHAPE, folder=tmp_path, **QUICK)
        cost.calibrate()
        elsewhere = replace(cost.table, environment=replace(cost.table.environment, device_name='elsewhere'))
        elsewhere.save(tmp_path / TABLE_FILE)
        TableCost(backbone, SHAPE, folder=tmp_path, **QUICK).calibrate()
        assert len(measured) == 2
        other = SparseSwin(**tiny_swin_cfg | dict(embed_dims=32))
        TableCost(other, SHAPE, folder=tmp_path, **QUICK).calibrate()
        assert len(measured) == 3

    def test_zero_is_measured_where_no_setting_has_it(self, backbone):
        cost = TableCost(backbone, SHAPE, **QUICK | dict(choices=(0.5, 0.7)))
        assert cost.calibrate()['dense'] == cost.cost(0.0) > 0
        assert cost.table.choices == (0.0, 0.5, 0.7)

    def test_a_worker_takes_over_what_the_study_has(self, backbone, measured, tmp_path):
        state = TableCost(backbone, SHAPE, **QUICK).calibrate()
        state = json.loads(json.dumps(state))
        state['table']['environment'] |= dict(device_name='elsewhere', threads=99)
        worker = TableCost(backbone, SHAPE, folder=tmp_path, **QUICK)
        assert worker.calibrate(state) == state and len(measured) == 1 and not list(tmp_path.iterdir())
        assert worker.cost(0.0) == state['dense'] and 'elsewhere' in worker.describe()['Latency table']

    @pytest.mark.parametrize(
        ('seconds', 'rounds', 'said'),
        [(1e-4, 10, 'less than a minute'), (1.0, 7, 'about 4 min'), (60.0, 3, 'about 92 min')],
    )
    def test_few_rounds_where_one_pass_takes_long(self, backbone, monkeypatch, seconds, rounds, said):
        taken, log = [], []
        monkeypatch.setattr('sparsevit_mm.cost.measure_latency_table', lambda *_, rounds, **__: taken.append(rounds))
        record = type('Record', (), dict(median=seconds))
        monkeypatch.setattr('sparsevit_mm.cost.measure_latency', lambda *_, **__: [record])
        monkeypatch.setattr(table_source, 'print_log', lambda text, **_: log.append(text))
        options = dict(check=20, rounds=None, folder=None, progress=None)
        table_source.measured_table(backbone, CHOICES, dict(shape=SHAPE), **options)
        assert taken == [rounds] and said in log[0]

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            (dict(shape=(0, 8)), 'shape must be two positive integers'),
            (dict(batch=0), 'batch must be a positive integer'),
            (dict(dtype='int8'), 'dtype must be one of'),
            (dict(device='tpu'), "device must be 'cpu', 'cuda'"),
            (dict(choices=(0.0,)), 'choices of a latency table must ascend from 0'),
        ],
    )
    def test_mistakes_are_said(self, backbone, options, message):
        with pytest.raises(ValueError, match=message):
            TableCost(backbone, **dict(shape=SHAPE, **QUICK) | options).calibrate()


class TestConditions:
    def test_they_leave_out_the_machine(self, backbone):
        assert TableCost(backbone, SHAPE, device='cuda:1', **QUICK).conditions() == {
            'shape': list(SHAPE), 'batch': 1, 'dtype': 'float32', 'device': 'cuda', 'whole_model': False,
        }  # fmt: skip

    def test_they_are_the_same_for_the_same_table_under_another_name(self, backbone, file, tmp_path):
        copy, other = tmp_path / 'copy.json', tmp_path / 'other.json'
        copy.write_text(json.dumps(json.loads(file.read_text())))
        made_up(backbone, rest=0.006).save(other)
        conditions = [
            json.loads(json.dumps(TableCost(backbone, SHAPE, choices=CHOICES, table=table).conditions()))
            for table in (file, copy, other)
        ]
        assert conditions[0] == conditions[1] != conditions[2]


class TestWholeModel:
    @pytest.fixture
    def rest(self, monkeypatch):
        calls = []

        def measure(model, backbone, **options):
            calls.append(options)
            return ModelRest(0.035, 0.034, 0.037, options['rounds'], 'the network')

        monkeypatch.setattr('sparsevit_mm.cost.model_rest.measure_model_rest', measure)
        return calls

    def test_what_is_beside_the_backbone_is_added_to_every_cost(self, backbone, file, rest):
        cost = TableCost(backbone, SHAPE, choices=CHOICES, table=file, whole_model=backbone)
        state = cost.calibrate()
        table = LatencyTable.load(file)
        assert state['model_rest'] == 0.035 and state['dense'] == cost.cost(0.0) == table.dense + 0.035
        assert cost.cost(0.8) == table.predict(0.8) + 0.035
        assert rest == [dict(shape=SHAPE, batch=1, dtype='float32', device='cpu', rounds=10, progress=None)]
        line = cost.describe()['Whole model']
        assert '35 ms beside the backbone' in line and '34 ms and 37 ms' in line and 'the network' in line
        assert cost.conditions()['whole_model'] is True

    def test_it_is_taken_over_with_the_table(self, backbone, file, rest):
        state = TableCost(backbone, SHAPE, choices=CHOICES, table=file, whole_model=backbone).calibrate()
        worker = TableCost(backbone, SHAPE, choices=CHOICES, table=file, whole_model=backbone)
        assert worker.calibrate(json.loads(json.dumps(state))) == state
        assert worker.cost(0.0) == state['dense'] and len(rest) == 1

    def test_without_it_nothing_is_added(self, backbone, file, rest):
        cost = TableCost(backbone, SHAPE, choices=CHOICES, table=file)
        assert cost.calibrate()['model_rest'] == 0.0 and not rest and 'Whole model' not in cost.describe()


class TestDoubt:
    def cost_of(self, backbone, tmp_path, **changes):
        made_up(backbone, **changes).save(tmp_path / 'table.json')
        cost = TableCost(backbone, SHAPE, choices=CHOICES, table=tmp_path / 'table.json')
        cost.calibrate()
        return cost

    def check(self, *errors):
        return tuple(CheckedSetting((0.0, 0.0, 0.0), 0.1, 0.1 * (1 + error)) for error in errors)

    def spread(self, relative):
        return tuple(
            SiteLatency(tuple(values), *(tuple(v * (1 + sign * relative / 2) for v in values) for sign in (-1, 1)))
            for values in ([0.01, 0.007, 0.004],) * 3
        )

    def test_a_good_table_gives_none(self, backbone, tmp_path):
        cost = self.cost_of(backbone, tmp_path, check=self.check(0.01, -0.02, 0.2), sites=self.spread(0.02), rounds=7)
        assert cost.doubt() is None
        lines = cost.describe()
        assert lines['Prediction'] == 'off by 2.0% (median) and at worst by 20.0% over 3 random settings'
        assert '; 7 rounds; dense 35 ms; ' in lines['Latency table'] and lines['Spread'] == 'quartiles 1.7% apart'

    def test_one_without_check_and_quartiles_gives_none_either(self, backbone, tmp_path):
        cost = self.cost_of(backbone, tmp_path)
        assert cost.doubt() is None and cost.describe()['Prediction'] == 'not checked'
        assert 'Spread' not in cost.describe()

    def test_wide_spread_and_wrong_predictions_are_said(self, backbone, tmp_path):
        cost = self.cost_of(backbone, tmp_path, check=self.check(0.01, 0.07, -0.08), sites=self.spread(0.3))
        assert 'quartiles 26% apart) and its predictions of random settings are off by 7% (median)' in cost.doubt()
