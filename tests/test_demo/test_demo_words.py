"""What a page says of costs: dense beside sparse, with their spread, and nothing better than it is."""

import pytest
from demo_models import SEGMENTOR, write_config, write_picture

from sparsevit_mm.cost import Environment, LatencyRecord
from sparsevit_mm.demo import Demo, DemoLatency, DemoResult, load_demo
from sparsevit_mm.demo.words import costs, introduction, moved_along, notes


@pytest.fixture(scope='module')
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return load_demo(write_config(tmp_path_factory.mktemp('words'), SEGMENTOR), None)


@pytest.fixture(scope='module')
def result(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    path = write_picture(tmp_path_factory.mktemp('words') / 'a.png')
    return demo.render(path, 0.6)


def _record(median: float, spread: float = 0.01) -> LatencyRecord:
    environment = Environment.current(device='cpu', dtype='float32', batch=1, shape=(96, 160))
    return LatencyRecord(median, median - spread, median + spread, 5, 0, None, environment)


def test_figures_of_a_setting(result: DemoResult) -> None:
    latency = DemoLatency(_record(0.08), _record(0.04), _record(0.4), _record(0.39), 'backbone & all')
    html = costs(result, latency)
    assert f'{result.dense_macs / 1e6:.0f} M' in html and f'{result.macs / 1e6:.0f} M' in html
    assert f'{1 - result.macs / result.dense_macs:.0%} saved' in html
    assert '80.0 ms' in html and '(30.0–50.0)' in html and '2.00x faster' in html
    assert 'no difference beyond the spread' in html  # 0.40 and 0.39, each with 0.01 on both sides
    assert 'median of 5 passes' in html and '160 x 96' in html and 'backbone &amp; all' in html
    assert result.agreement in html


def test_slower_is_said(result: DemoResult) -> None:
    slow = DemoLatency(_record(0.04, 0.001), _record(0.08, 0.001), _record(1.0), _record(2.0), '')
    assert '2.00x slower' in costs(result, slow) and '1000 ms' in costs(result, slow)


def test_why_there_is_no_latency(result: DemoResult) -> None:
    html = costs(result, None, 'not measured')
    assert html.count('not measured') == 2 and 'faster' not in html and 'median of' not in html


def test_random_weights_are_pointed_out(demo: Demo) -> None:
    assert 'Random weights' in introduction(demo, 'a <config>') and 'a &lt;config&gt;' in introduction(
        demo, 'a <config>'
    )
    trained = Demo(demo.model, trained=True)
    assert 'Random weights' not in introduction(trained, 'config')


def test_who_moved_along(demo: Demo) -> None:
    before, after = (0.0, 0.0, 0.7, 0.5, 0.0), (0.0, 0.0, 0.7, 0.7, 0.0)
    assert '<b>stage3.pair2</b> moved along' in moved_along(demo, 2, before, after)
    assert moved_along(demo, 2, after, after) == ''


def test_notes_are_escaped(result: DemoResult) -> None:
    from dataclasses import replace

    assert notes(replace(result, notes=('a <b> c',))) == '<p class="faint">a &lt;b&gt; c</p>'
