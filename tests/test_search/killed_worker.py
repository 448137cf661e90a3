"""A search that is meant to be killed: notes in a file what it has come to, a line at a time.

    python killed_worker.py URL NOTES --trials 60 --seed 0 [--rungs 5 20]

Every line is written at once: ``imported``, ``opened``, ``begin SETTING``, ``told SETTING`` or ``given_up SETTING``
once the storage has taken the result, and ``over`` in the end.
"""

import argparse
import random
import time
import warnings

from search_problem import LinearCost, accuracy

from sparsevit_mm.search import Budget, SparsityStudy
from sparsevit_mm.sparsity import SparsityLayout, SparsitySpace

SPACE = SparsitySpace(
    SparsityLayout(('stage1.pair1', 'stage1.pair2', 'stage2.pair1'), (2, 1)), tuple(i / 10 for i in range(10))
)


def without_waiting_for_the_disk(connection, record):
    connection.execute('PRAGMA synchronous = OFF')  # a killed process takes nothing along that it has written


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('url')
    parser.add_argument('notes')
    parser.add_argument('--trials', type=int, required=True)
    parser.add_argument('--seed', type=int, required=True, help='of how long evaluations take')
    parser.add_argument('--rungs', type=int, nargs='*', default=())
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    rng = random.Random(args.seed)
    import optuna  # most of the start
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, 'connect', without_waiting_for_the_disk)
    with open(args.notes, 'a', buffering=1) as notes:
        notes.write('imported\n')
        options = dict(storage=args.url, resume=True, trials=args.trials, rungs=args.rungs)
        study = SparsityStudy(SPACE, LinearCost(), Budget(0.7), **options)
        notes.write('opened\n')
        while (candidate := study.ask()) is not None:
            setting, score = ','.join(map(str, candidate.sparsity)), accuracy(candidate.sparsity)
            notes.write(f'begin {setting}\n')
            for rung in args.rungs[:-1]:
                time.sleep(rng.uniform(0.01, 0.02))
                if study.report(candidate, rung, score - 10 / rung):
                    notes.write(f'given_up {setting}\n')
                    break
            else:
                time.sleep(rng.uniform(0.02, 0.06))
                study.tell(candidate, score)
                notes.write(f'told {setting}\n')
        notes.write('over\n')
        study.close()


if __name__ == '__main__':
    main()
