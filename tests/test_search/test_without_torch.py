import subprocess
import sys

SEARCH = """
import sys
for name in ('torch', 'mmcv', 'mmdet', 'mmseg', 'mmdet3d'):
    sys.modules[name] = None  # any import of these raises

from sparsevit_mm.search import Budget, SparsityStudy
from sparsevit_mm.sparsity import SparsityLayout, SparsitySpace


class Cost:
    name, unit, exact, tolerance = 'macs', 'MACs', True, 0.0

    def calibrate(self, state=None):
        return {'dense': self.cost((0, 0)), 'least': self.cost((0.5, 0.5))}

    def cost(self, sparsity):
        return 2 - sum(sparsity)

    estimate = cost

    def conditions(self):
        return {}


space = SparsitySpace(SparsityLayout(('a', 'b'), (1, 1)), (0.0, 0.25, 0.5))
study = SparsityStudy(space, Cost(), Budget(0.7), storage=sys.argv[1], trials=9)
while (candidate := study.ask()) is not None:
    study.tell(candidate, -candidate.sparsity[0])
print(study.outcome().best.sparsity)
"""


def test_a_search_needs_neither_torch_nor_mm_packages(tmp_path):
    url = f'sqlite:///{tmp_path}/study.sqlite3'
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', SEARCH, url], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == '(0.25, 0.5)'
