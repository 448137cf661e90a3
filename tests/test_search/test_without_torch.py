import subprocess
import sys

import pytest

PYTHON = [sys.executable, '-W', 'ignore', '-c']

SEARCH = """
import sys
for name in ('torch', 'mmcv', 'mmdet', 'mmseg', 'mmdet3d'):
    sys.modules[name] = None  # any import of these raises

from sparsevit_mm.search import Budget, SparsityLayout, SparsitySpace, SparsityStudy, write_report


class Cost:
    name, unit = 'macs', 'MACs'

    def calibrate(self, state=None):
        return state or {'dense': self.cost((0, 0))}

    def cost(self, sparsity):
        return 2 - sum(sparsity)

    def conditions(self):
        return {}


space = SparsitySpace(SparsityLayout(('a', 'b'), (1, 1)), (0.0, 0.25, 0.5))
study = SparsityStudy(space, Cost(), Budget(0.7), storage=sys.argv[1], trials=9, rungs=(10, 20))
while (candidate := study.ask()) is not None:
    if not study.report(candidate, 10, -candidate.sparsity[0]):
        study.tell(candidate, -candidate.sparsity[0])
study.close()
write_report(study.outcome(), sys.argv[2], {'Seed': '0'}, 'two sites')
print(study.outcome().best.sparsity)
"""

LIGHT = """
import sys
import sparsevit_mm.search
print(*sorted({name.partition('.')[0] for name in sys.modules}))
"""


def test_a_search_and_its_report_need_neither_torch_nor_mm_packages(tmp_path):
    url = f'sqlite:///{tmp_path}/study.sqlite3'
    done = subprocess.run([*PYTHON, SEARCH, url, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == '(0.25, 0.5)'
    for name in ('report.html', 'report.md', 'pareto.png', 'sites.png', 'pareto.csv', 'candidates.csv'):
        assert (tmp_path / name).stat().st_size > 0
    assert '(0.25, 0.5)' in (tmp_path / 'report.md').read_text()


@pytest.mark.parametrize('name', ['torch', 'mmcv', 'mmdet', 'mmseg', 'mmdet3d', 'optuna', 'sqlalchemy', 'matplotlib'])
def test_importing_the_search_imports_little(name, imported):
    assert 'sparsevit_mm' in imported
    assert name not in imported


@pytest.fixture(scope='module')
def imported():
    done = subprocess.run([*PYTHON, LIGHT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
