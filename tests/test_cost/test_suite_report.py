import json
from pathlib import Path

import matplotlib.image
import pytest
from scripts import ROOT, load_script

from sparsevit_mm.cost.suite_file import CaseResult, SuiteFile, suite_environment
from sparsevit_mm.cost.suite_plot import plot_speed_up
from sparsevit_mm.cost.suite_report import markdown_lines, read_lines
from sparsevit_mm.cost.suites import CONFIG_2

FOUND = [float(value) for value in CONFIG_2.split(',')]


def row(sparsity: list[float] | None, seconds: float | None, macs: int, mode: str = 'eager') -> dict:
    latency = None if seconds is None else dict(median=seconds, peak_memory=1000 * macs)
    model = 'SwinTransformer' if sparsity is None else 'SparseSwin'
    return dict(
        model=model, sparsity=sparsity, macs=macs, latency=latency, mode=mode, architecture=0, realised_share=0.9
    )


def report(dtype: str, shape: tuple[int, int], dense: float = 0.5, **given) -> dict:
    rows = [row(None, 1.0, 100), row([0.0] * 6, dense, 100), row([0.6] * 6, 0.25, 40), row(FOUND, 0.4, 70)]
    return dict(environment=dict(shape=shape, batch=1, dtype=dtype), rows=rows, failures=[], **given)


@pytest.fixture
def path(tmp_path) -> Path:
    file = SuiteFile(tmp_path, 'swin-coco', suite_environment('cpu', 2))
    for shape in ((800, 1344), (672, 672)):
        for dtype in ('float32', 'bfloat16'):
            name = f'swin-t_{shape[0]}x{shape[1]}_b1_{dtype}_eager'
            file.put(CaseResult(name, (), report(dtype, shape), None))
    file.put(CaseResult('swin-t_672x672_b4_float32_eager', (), None, 'killed by signal 9'))
    return file.path


@pytest.fixture(scope='module')
def script():
    return load_script(ROOT / 'docs' / 'scripts' / 'benchmark_table.py')


def test_lines_hold_ours_against_stock_and_against_dense(path):
    _, lines, failed = read_lines(path)
    assert len(lines) == 12 and [case.name for case in failed] == ['swin-t_672x672_b4_float32_eager']
    sparse = next(line for line in lines if line.sparsity[0] == 0.6 and line.sparsity[-1] == 0.6)
    assert (sparse.speed_up, sparse.over_dense, sparse.macs_ratio, sparse.memory_share) == (4, 2, 2.5, 0.4)
    head, rule, *body = markdown_lines([sparse])
    assert head.startswith('| backbone | size') and rule.count('|') == head.count('|') == body[0].count('|')
    for part in ('[SparseSwin, swin-t](../benchmarks/', '800x1344', '1000 ms', '250 ms', '4.00x', '2.50', '90%', '40%'):
        assert part in body[0]


def test_a_row_that_did_not_run_is_in_the_table(path):
    values = json.loads(path.read_text())
    values['cases'][0]['report']['rows'][1] = row([0.0] * 6, None, 100)
    path.write_text(json.dumps(values))
    broken, sparse = read_lines(path)[1][:2]
    assert 'does not run' in list(markdown_lines([broken]))[-1]
    assert sparse.over_dense is None and sparse.speed_up == 4


def test_the_readme_gets_its_table_and_keeps_the_rest(path, script, tmp_path):
    english, chinese = tmp_path / 'README.md', tmp_path / 'README_zh-CN.md'
    for file in (english, chinese):
        file.write_text('before\n<!-- benchmarks -->\nold\n<!-- /benchmarks -->\nafter\n')
    script.main([str(path), '--readme', str(english), str(chinese)])
    for file in (english, chinese):
        text = file.read_text()
        assert text.startswith('before\n<!-- benchmarks -->\n\n|') and text.endswith('<!-- /benchmarks -->\nafter\n')
        assert 'old' not in text and text.count('4.00x') == 4 and text.count('\n|') == 14
    assert '加速比' in chinese.read_text() and 'speed-up' in english.read_text()
    once = english.read_text()
    script.main([str(path), '--readme', str(english)])
    assert english.read_text() == once


def test_what_a_readme_lacks_is_said(path, script, tmp_path):
    file = tmp_path / 'README.md'
    file.write_text('no markers')
    with pytest.raises(ValueError, match='needs the lines <!-- benchmarks -->'):
        script.main([str(path), '--readme', str(file)])
    with pytest.raises(ValueError, match='swin-t_672x672_b1_bfloat16_eager: run'):
        script.main([str(path), '--case', '800x1344', '--readme', str(file)])
    assert file.read_text() == 'no markers'


def test_the_full_table_names_what_failed(path, script, capsys):
    script.main([str(path)])
    shown = capsys.readouterr().out
    assert shown.count('\n|') == 13 and '- swin-t_672x672_b4_float32_eager: killed by signal 9' in shown


def test_the_picture_is_drawn(path, tmp_path):
    out = tmp_path / 'speed.png'
    plot_speed_up(read_lines(path)[1], out)
    picture = matplotlib.image.imread(out)
    assert min(picture.shape[:2]) > 300 and picture[..., :3].std() > 0.05
    with pytest.raises(ValueError, match='nothing to draw'):
        plot_speed_up([], out)


def test_a_file_that_is_none_is_refused(script, tmp_path):
    (tmp_path / 'a.json').write_text('{"rows": []}')
    with pytest.raises(ValueError, match='cannot be read as the file of a suite'):
        script.main([str(tmp_path / 'a.json')])
