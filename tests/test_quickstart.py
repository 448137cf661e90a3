import json
from pathlib import Path

import pytest
import torch
from forked import Program
from rich.console import Console
from scripts import load_tool

pytest.importorskip('mmseg')
pytest.importorskip('optuna')
pytest.importorskip('skimage')
pytest.importorskip('sklearn')

from sparsevit_mm.cli import run_tool
from sparsevit_mm.datasets import demo
from sparsevit_mm.quickstart import FULL, SMOKE, Plan, Quickstart, Row, markdown, steps
from sparsevit_mm.quickstart.machine import MachineSettings, fastest_settings

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / 'tools' / 'quickstart.py'


def _run(output: Path, work_dir: Path, demo: Path, *options: str) -> str:
    env = {'SPARSEVIT_MM_DEMO': str(demo), 'COLUMNS': '200'}
    program = Program(TOOL, '--work-dir', work_dir, *options, output=output, env=env, cwd=work_dir.parent)
    assert program.wait(300) == 0, program.said()
    return program.said()


@pytest.mark.slow
def test_smoke_run_and_second_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work_dir, demo = tmp_path / 'quickstart', tmp_path / 'demo'
    first = _run(tmp_path / 'first.txt', work_dir, demo, '--smoke')
    assert 'done before' not in first
    for text in ('dense', 'uniform', 'found', 'speed-up', '12 of 12 steps', 'search 5/5'):
        assert text in first
    state = json.loads((work_dir / 'quickstart.json').read_text())
    rows = {row['name']: row for row in state['rows']['value']}
    assert list(rows) == ['dense', 'uniform', 'found']
    assert not any(rows['dense']['sparsity']) and len(set(rows['uniform']['sparsity'])) == 1
    assert rows['uniform']['macs'] < rows['dense']['macs'] > rows['found']['macs']
    listed = [Path(line) for line in first.splitlines() if line.startswith(str(work_dir))]
    assert {path.name for path in listed} == {'report.md', 'pareto.png', 'best_config.py', 'overview.png', 'results.md'}
    assert all(path.stat().st_size for path in listed)

    del state['rows']  # as if it had been stopped in the comparison
    (work_dir / 'quickstart.json').write_text(json.dumps(state))
    second = _run(tmp_path / 'second.txt', work_dir, demo, '--smoke')
    assert second.count('done before') == 6
    assert set(json.loads((work_dir / 'quickstart.json').read_text())) == set(state) | {'rows'}

    assert run_tool(load_tool('quickstart').main, ['--work-dir', str(work_dir)]) == 2
    assert 'holds a quickstart of other sizes' in capsys.readouterr().err


def _quickstart(work_dir: Path, plan: Plan = SMOKE) -> Quickstart:
    return Quickstart(work_dir, ROOT / 'configs', plan, Console(quiet=True))


def test_training_resumes_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of an interrupted training are not made again."""
    monkeypatch.setattr(demo, 'SPLITS', {'train': 4, 'val': 2})
    started = []

    class Stop(Exception):
        pass

    class Counting(steps.ShowProgress):
        def before_train(self, runner) -> None:
            started.append(runner.iter)
            super().before_train(runner)

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
            if len(started) == 1 and runner.iter == 2:
                raise Stop

    monkeypatch.setattr(steps, 'ShowProgress', Counting)
    config = Quickstart._config

    def small(self: Quickstart, step: str, suffix: str = ''):
        cfg = config(self, step, suffix)
        cfg.train_dataloader.batch_size = 2
        cfg.default_hooks.checkpoint.interval = 2
        return cfg

    monkeypatch.setattr(Quickstart, '_config', small)
    monkeypatch.setenv('SPARSEVIT_MM_DEMO', str(tmp_path / 'demo'))
    plan = Plan(
        dense_iters=4, adapt_iters=1, budget=0.8, trials=1, search_images=1, val_images=1, rounds=1, latency_rounds=1
    )
    first = _quickstart(tmp_path / 'work', plan)
    first._step('data', '', first._make_data)
    first._step('machine', '', lambda: dict(threads=1, bfloat16=False))
    with pytest.raises(Stop):
        first._step('dense', '', first._train_dense)
    second = _quickstart(tmp_path / 'work', plan)
    second._step('dense', '', second._train_dense)
    assert started == [0, 2]
    assert second._value('dense').endswith('iter_4.pth')


def test_fastest_settings_leave_the_threads_alone() -> None:
    before = torch.get_num_threads()
    seen = set()

    class Backbone(torch.nn.Conv2d):
        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            features = super().forward(images)
            seen.add((torch.get_num_threads(), features.dtype))
            if features.dtype == torch.float32 or torch.get_num_threads() > 1:
                features = super().forward(images.repeat(400, 1, 1, 1))[:1]  # plainly more work
            return [features]

    torch.set_num_threads(2)
    try:
        settings = fastest_settings(Backbone(3, 8, 3), torch.randn(1, 3, 64, 64))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == {(n, dtype) for n in (1, 2) for dtype in (torch.float32, torch.bfloat16)}
    assert settings == MachineSettings(threads=1, bfloat16=True)


def test_work_dir_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match='file'):
        _quickstart(tmp_path / 'file' / 'work')


def test_work_dir_of_another_plan(tmp_path: Path) -> None:
    _quickstart(tmp_path)
    with pytest.raises(ValueError, match=rf'other sizes: dense_iters=12 \(now {FULL.dense_iters}\)'):
        _quickstart(tmp_path, FULL)


def test_unreadable_state(tmp_path: Path) -> None:
    (tmp_path / 'quickstart.json').write_text('{"plan"')
    with pytest.raises(ValueError, match=r'quickstart.json cannot be read .* Delete'):
        _quickstart(tmp_path)


def test_table_is_relative_to_dense(tmp_path: Path) -> None:
    rows = [
        Row('dense', (0.0, 0.0), 80.0, 2_000_000_000, 0.04, (0.039, 0.042)),
        Row('found', (0.8, 0.2), 78.5, 1_000_000_000, 0.02, (0.019, 0.021)),
    ]
    text = markdown(rows)
    assert '| dense | 0, 0 | 80.0 | 2000 | 40.0 ms (39.0-42.0) | 1.00x |' in text
    assert '| found | 0.8, 0.2 | 78.5 | 1000 | 20.0 ms (19.0-21.0) | 2.00x |' in text
