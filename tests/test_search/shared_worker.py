"""One of the processes at a shared study: searches to the end and notes in a file of its own what it does.

    python shared_worker.py URL FOLDER LABEL [--trials 12] [--seconds 0.1] [--hold 3] [--hold-taken-up]

A worker that holds stays in an evaluation until the file FOLDER/LABEL.go is there.
"""

import argparse
import time
import warnings
from pathlib import Path

from search_problem import LinearCost, accuracy

from sparsevit_mm.search import Budget, SparsityStudy
from sparsevit_mm.sparsity import SparsityLayout, SparsitySpace


class Notes:
    """Lines of words, one file a worker."""

    def __init__(self, folder, label):
        self.folder, self.path = Path(folder), Path(folder) / f'{label}.txt'

    def add(self, *words):
        with self.path.open('a') as file:
            print(*words, file=file, flush=True)

    def of_others(self):
        return ''.join(path.read_text() for path in self.folder.glob('*.txt') if path != self.path)


class SlowToSetUp(LinearCost):
    def __init__(self, notes):
        super().__init__()
        self.notes = notes

    def calibrate(self, state=None):
        if state is None:
            self.notes.add('calibrated')
            time.sleep(1)  # the others come meanwhile
        return super().calibrate(state)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('url')
    parser.add_argument('folder', type=Path)
    parser.add_argument('label')
    parser.add_argument('--trials', type=int, default=12)
    parser.add_argument('--seconds', type=float, default=0.1)
    parser.add_argument('--hold', type=int, help='in which evaluation to stay')
    parser.add_argument('--hold-taken-up', action='store_true', help='stay in one that another worker has begun')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    notes = Notes(args.folder, args.label)
    layout = SparsityLayout(('stage1.pair1', 'stage1.pair2', 'stage2.pair1'), (2, 1))
    study = SparsityStudy(
        SparsitySpace(layout, (0.0, 0.2, 0.5, 0.8)),
        SlowToSetUp(notes),
        Budget(0.7),
        storage=args.url,
        trials=args.trials,
        heartbeat=1,
        grace=3,
        patience=60,
        on_wait=lambda text: notes.add('waits:', text),
    )
    number = 0
    while (candidate := study.ask()) is not None:
        number += 1
        setting = ','.join(map(str, candidate.sparsity))
        held = number == args.hold or (args.hold_taken_up and f'begun {setting}\n' in notes.of_others())
        notes.add('begun', setting)
        if held:
            notes.add('held', setting)
            while not (args.folder / f'{args.label}.go').exists():
                time.sleep(0.05)
        time.sleep(args.seconds)
        study.tell(candidate, accuracy(candidate.sparsity))
        notes.add('told', setting)
    notes.add('over:', study.stopped)
    study.close()


if __name__ == '__main__':
    main()
