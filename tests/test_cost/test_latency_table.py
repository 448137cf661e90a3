"""Tables of latencies: what they predict, what they fit, and what happens to their files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tables import ENVIRONMENT, FAMILIES, build, made_up, table_of

from sparsevit_mm.cost import LatencyTable
from sparsevit_mm.cost.latency_table import FORMAT
from sparsevit_mm.cost.table_entries import SiteLatency
from sparsevit_mm.models import PrunedViT, SparseSwin

TINY = dict(embed_dims=16, num_heads=(1, 2), depths=(2, 4), strides=(4, 2), out_indices=(0, 1), window_size=4)


def test_predictions_add_up_and_are_linear_between_choices() -> None:
    table = made_up()
    assert table.dense == table.predict(0) == 15
    assert table.predict((0.5, 0.25, 0.5)) == 1 + 2 + 6 + 1
    assert table.predict((0.125, 0, 0.3)) == pytest.approx(1 + 3.5 + 8 + 1.4)


def test_least_is_that_of_an_allowed_setting() -> None:
    assert made_up().least == made_up().predict(0.5) == 8
    # The second site of a stage is slow where it is sparse, so it holds the first one back.
    slow = made_up(times=((4.0, 3.0, 2.0), (8.0, 6.0, 5.0), (2.0, 7.0, 9.0)))
    assert slow.least == slow.predict((0.5, 0, 0)) == 1 + 2 + 8 + 2


def test_spread_is_that_of_the_sum_where_it_is_most() -> None:
    assert made_up().spread is None
    median = (4.0, 3.0, 2.0)
    site = SiteLatency(median, q1=(4.0, 2.5, 2.0), q3=(4.0, 3.5, 2.1))
    assert replace(made_up(), sites=(site,) * 3).spread == pytest.approx(3 / (1 + 9))


def test_more_than_was_measured_is_not_guessed() -> None:
    with pytest.raises(ValueError, match=r'sparsity of stage2\.pair2 is 0\.6, .* measured from 0 to 0\.5: measure one'):
        made_up().predict((0, 0, 0.6))
    with pytest.raises(ValueError, match='must not decrease within a stage'):
        made_up().predict((0, 0.5, 0.25))


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    table = replace(made_up(check=[(1.0, 1.1)]), rounds=7)
    spread = replace(table, sites=tuple(SiteLatency(s.median, s.median, s.median) for s in table.sites))
    for i, one in enumerate((table, spread)):
        path = tmp_path / 'new' / f'{i}.json'
        one.save(path)
        assert LatencyTable.load(path) == one
        assert json.loads(path.read_text())['format'] == FORMAT
    assert sorted(path.name for path in (tmp_path / 'new').iterdir()) == ['0.json', '1.json']


def test_a_file_by_hand_needs_no_more_than_times() -> None:
    table = LatencyTable.from_dict(
        {
            'format': 'sparsevit_mm.latency_table/1',
            'backbone': {'type': 'SparseSwin', 'sites': ['stage1.pair1', 'stage2.pair1'], 'groups': [1, 1]},
            'environment': {'device_name': 'a phone, NPU', 'dtype': 'int8', 'batch': 1, 'shape': [64, 64]},
            'choices': [0, 0.5],
            'rest': 0.002,
            'sites': {'stage1.pair1': {'median': [0.004, 0.002]}, 'stage2.pair1': {'median': [0.008, 0.005]}},
        }
    )
    assert table.predict((0.5, 0)) == pytest.approx(0.012)
    assert table.environment.device == 'unknown' and table.check_errors() == ()
    table.require(SparseSwin(**TINY | dict(depths=(2, 2))), device_name='a phone, NPU', dtype='int8')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(format='other/1'), f"its format must be '{FORMAT}', got 'other/1'"),
        (dict(choices=[0.1, 0.5, 0.6]), r'choices .* must ascend from 0 to less than 1'),
        (dict(choices=[0, 0.5]), r'median of stage1\.pair1 must be seconds from 0 on, one for each of the 2 choices'),
        (dict(sites={}), r"'stage1\.pair1' is missing"),
        (dict(rest=-1), 'rest must be seconds'),
        (dict(environment={'dtype': 'float32'}), 'missing batch, device_name, shape'),
        (dict(backbone={'type': 'SparseSwin', 'sites': ['a'], 'groups': [2]}), r'groups \(2,\) do not add up'),
        (dict(choices=None), 'of a wrong kind'),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / 'table.json'
    path.write_text(json.dumps(made_up().to_dict() | change))
    with pytest.raises(ValueError, match=rf"latency table '.*table\.json' cannot be read: .*{message}"):
        LatencyTable.load(path)


@pytest.mark.parametrize('text', ['{', '[]', '', '{"format": 3}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / 'table.json').write_text(text)
    with pytest.raises(ValueError, match=r'cannot be read: .* Measure one by tools/latency_table\.py'):
        LatencyTable.load(tmp_path / 'table.json')
    with pytest.raises(ValueError, match=r'cannot be read: .*No such file'):
        LatencyTable.load(tmp_path / 'none.json')


@pytest.mark.parametrize('family', FAMILIES)
def test_the_same_backbone_fits_and_another_does_not(family: str) -> None:
    table = table_of(build(family))
    again = build(family)
    again.sparsity = 0.5
    table.require(again, device='cpu', device_name='a processor', shape=[64, 96], batch=1, dtype='float32', threads=2)
    other = build('PrunedViT' if family != 'PrunedViT' else 'SparseSwin')
    with pytest.raises(ValueError, match=f'type of the backbone: {family} in the table, {type(other).__name__} here'):
        table.require(other)


@pytest.mark.parametrize(
    'change',
    [
        dict(selector=dict(type='sparsevit_mm.MagnitudeSelector')),
        dict(bypass='package'),
        dict(reactivate=True),
        dict(embed_dims=64),
        dict(num_heads=8),
        dict(out_indices=(1, 3), layer_scale_init_value=1.0),
        dict(patch_size=16),
    ],
)
def test_what_decides_the_cost_decides_the_backbone(change: dict) -> None:
    arguments = dict(img_size=64, patch_size=8, embed_dims=32, num_layers=4, num_heads=4, site_blocks=(1, 2))
    table = table_of(PrunedViT(**arguments))
    table.require(PrunedViT(**arguments | dict(drop_path_rate=0.3, img_size=96)))
    with pytest.raises(ValueError, match=r'PrunedViT differs in widths, depths, selector or bypass \(signature'):
        table.require(PrunedViT(**arguments | change))
    with pytest.raises(ValueError, match='sites of the backbone: block1, block2 in the table, block1, block3 here'):
        table.require(PrunedViT(**arguments | dict(site_blocks=(1, 3))))


def test_all_that_differs_is_named_with_the_command() -> None:
    backbone = build('SparseSwin')
    with pytest.raises(ValueError) as error:
        table_of(backbone).require(
            backbone, device_name='another', shape=(800, 1344), dtype='bfloat16', device='cuda:1'
        )
    for part in (
        'device: cpu in the table, cuda wanted',
        'device_name: a processor in the table, another wanted',
        'dtype: float32 in the table, bfloat16 wanted',
        'shape: 64x96 in the table, 800x1344 wanted',
        'tools/latency_table.py CONFIG --shape 800 1344 --batch 1 --dtype bfloat16 --device cuda:1 --out table.json',
    ):
        assert part in str(error.value)
    cuda = table_of(backbone, replace(ENVIRONMENT, device='cuda:0'))
    cuda.require(backbone, device='cuda:1')
    with pytest.raises(ValueError, match=r'conditions of a latency table are device, .*; got gpu'):
        cuda.require(backbone, gpu='this')
