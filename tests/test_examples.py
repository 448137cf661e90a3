import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip('sklearn')

PLAIN_TORCH = Path(__file__).resolve().parents[1] / 'docs' / 'examples' / 'search_plain_torch.py'
BUDGET = 0.25
TRIAL = re.compile(r'trial (\d+): (\(.*\)) ([0-9.]+) ([0-9]+)')


@pytest.fixture(scope='module')
def plain_torch() -> ModuleType:
    spec = importlib.util.spec_from_file_location('search_plain_torch', PLAIN_TORCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen]:
    """Starts the example on a study in the folder of the test."""
    command = [sys.executable, '-W', 'ignore', str(PLAIN_TORCH), '--budget', str(BUDGET)]
    storage = f'sqlite:///{tmp_path / "study.sqlite3"}'

    def started(*options: str) -> subprocess.Popen:
        whole = [*command, '--storage', storage, *options]
        environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
        return subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    return started


def _tried(process: subprocess.Popen) -> tuple[list[tuple[str, ...]], str]:
    """Number, setting, accuracy and cost of all that a process has evaluated, and all that it has printed."""
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return TRIAL.findall(output), output


def test_a_plain_torch_model_is_searched_by_several_processes_in_turn_and_at_once(
    start: Callable[..., subprocess.Popen], tmp_path: Path, plain_torch: ModuleType
) -> None:
    first, _ = _tried(start('--trials', '6', '--out', str(tmp_path / 'first')))
    assert len(first) == 7  # dense too, to compare with
    both = [start('--resume', '--trials', '16', '--out', str(tmp_path / name)) for name in ('a', 'b')]
    (a, printed), (b, _) = map(_tried, both)
    tried = [*first, *a, *b]
    assert len(tried) == 17
    assert len({setting for _, setting, _, _ in tried}) == 17, 'a setting was evaluated twice'
    costs = {setting: float(cost) for _, setting, _, cost in tried}
    dense = costs.pop('(0.0, 0.0, 0.0, 0.0)')
    assert dense == plain_torch.Macs().cost((0.0,) * 4)
    assert max(costs.values()) <= BUDGET * dense
    assert [line.split()[0] for line in printed.splitlines() if '(' in line][-3:] == ['dense', 'best', 'found']
    for name in ('report.html', 'report.md', 'pareto.png', 'sites.png', 'candidates.csv'):
        assert (tmp_path / 'a' / name).stat().st_size > 0
    report = (tmp_path / 'a' / 'report.md').read_text()
    assert 'residual MLP on digits' in report and 'stage2.block2' in report


def test_the_same_seed_finds_the_same(plain_torch: ModuleType) -> None:
    part = tuple(values[:64] for values in plain_torch.digits(0)[0])
    nets = [plain_torch.train(part, seed, steps=4) for seed in (0, 0, 1)]
    same, other = (nets[0].head.weight.equal(net.head.weight) for net in nets[1:])
    assert same and not other


@pytest.mark.parametrize('sparsity', [(0.0, 0.0, 0.0, 0.0), (0.2, 0.6, 0.9, 0.95)])
def test_the_cost_of_the_plain_torch_model_is_what_runs(plain_torch: ModuleType, sparsity: tuple[float, ...]) -> None:
    net = plain_torch.Net()
    net.sparsity = sparsity
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        net(torch.rand(1, 64))
    assert counted.get_total_flops() == 2 * plain_torch.Macs().cost(sparsity)
