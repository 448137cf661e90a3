"""How much faster several workers make a search: the same number of candidates by one worker, by two, and so on.

Every worker is a tools/search_sparsity.py of its own that computes on one thread. What is measured is the time from
when the first candidate is begun until the last one is told, by the clocks of the trials; what workers take to start,
to set the study up and to write the report is told apart. Runs of few and of many workers alternate, each on a study of
its own. MACs are counted, so that no table of latencies is measured. For example, on a SQLite file of each run:

    python docs/scripts/worker_speed.py configs/demo/upernet_swin-mini-p4-w7_800i_demo-448x448_sparse-search.py \
        ADAPTED_CHECKPOINT --out docs/results/worker_speed_sqlite.json

With --storage postgresql+psycopg://me@host/database all runs are studies on that server. Measure on a machine that does
nothing else, with no more workers than it has cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import optuna

from sparsevit_mm.cost.environment import Environment
from sparsevit_mm.search.storage import open_storage
from sparsevit_mm.search.storage.database import shown, sqlite_url

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'search_sparsity.py'
ONE_THREAD = {name: '1' for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS')}
# Images are read by the worker itself: a reader beside it would be a second process.
IN_PROCESS = ('val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False')


def search(args: argparse.Namespace, workers: int, name: str, folder: Path) -> dict[str, Any]:
    """One search by some workers; when it was begun and told, and how long the processes took.

    Raises:
        RuntimeError: If a worker fails; the message has the end of what it printed.
    """
    folder.mkdir(parents=True)
    url = args.storage or sqlite_url(folder / 'study.sqlite3')
    command = [sys.executable, str(TOOL), args.config, args.checkpoint, '--budget-macs', str(args.budget)]
    command += ['--trials', str(args.trials), '--work-dir', str(folder), '--storage', url, '--study-name', name]
    command += ['--search-images', str(args.images)] if args.images else []
    command += ['--cfg-options', *IN_PROCESS]
    load, started, clock = os.getloadavg()[0], datetime.now(), time.monotonic()
    processes = []
    for i in range(workers):
        with open(folder / f'worker{i}.txt', 'w') as log:
            environment = {**os.environ, **ONE_THREAD}
            processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment))
    statuses = [process.wait() for process in processes]
    for i, status in enumerate(statuses):
        if status:
            printed = (folder / f'worker{i}.txt').read_text()[-2000:]
            raise RuntimeError(f'worker {i} of {name} ended with status {status}:\n{printed}')
    timed = times(url, name, started)
    return {'workers': workers, 'load before': load, **timed, 'processes': time.monotonic() - clock}


def times(url: str, name: str, started: datetime) -> dict[str, Any]:
    """Seconds of a study by the clocks of its trials.

    Args:
        url: Its storage.
        name: Its name.
        started: When the workers were started.
    """
    study = optuna.load_study(study_name=name, storage=open_storage(url))
    trials = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    begun, told = min(t.datetime_start for t in trials), max(t.datetime_complete for t in trials)
    by_worker: dict[str, list[optuna.trial.FrozenTrial]] = {}
    for trial in trials:
        by_worker.setdefault(trial.user_attrs['worker'], []).append(trial)
    parts = sorted(by_worker.values(), key=lambda part: part[0].datetime_start)
    evaluating = [trial.user_attrs['result']['seconds'] for trial in trials]
    return {
        'searching': (told - begun).total_seconds(),
        'starting': (begun - started).total_seconds(),
        'evaluations': len(trials),
        'evaluation': median(evaluating),
        'busy': sum(evaluating) / (len(parts) * (told - begun).total_seconds()),
        'evaluations of each': [len(part) for part in parts],
        'begun after': [(part[0].datetime_start - begun).total_seconds() for part in parts],
        'idle in the end': [(told - max(t.datetime_complete for t in part)).total_seconds() for part in parts],
    }


def summary(runs: Sequence[dict[str, Any]], workers: Sequence[int]) -> dict[str, Any]:
    """Median seconds by the number of workers, and how much faster than the first number each is."""
    found = {}
    for count in workers:
        spans = [run['searching'] for run in runs if run['workers'] == count]
        alone = [run['searching'] for run in runs if run['workers'] == workers[0]]
        paired = [first / span for first, span in zip(alone, spans)]
        found[str(count)] = {
            'searching': median(spans),
            'evaluation': median(run['evaluation'] for run in runs if run['workers'] == count),
            'starting': median(run['starting'] for run in runs if run['workers'] == count),
            'speed-up': median(alone) / median(spans),
            'speed-up of each round': paired,
        }
    return found


def environment(url: str | None) -> dict[str, Any]:
    """What the figures were measured on."""
    measured = Environment.current(device='cpu', dtype='float32', batch=1, shape=(0, 0), threads=1)
    kept = {key: value for key, value in vars(measured).items() if key not in ('shape', 'batch')}
    storage = 'sqlite, a file for each run' if url is None else shown(url)
    return {**kept, 'cores': len(os.sched_getaffinity(0)), 'optuna': optuna.__version__, 'storage': storage}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='of a search')
    parser.add_argument('checkpoint', help='weights to search on')
    parser.add_argument('--workers', type=int, nargs='+', default=[1, 2], help='numbers that are compared')
    parser.add_argument('--rounds', type=int, default=3, help='how often each number is measured')
    parser.add_argument('--trials', type=int, default=39, help='candidates of a run; the dense reference is one more')
    parser.add_argument('--images', type=int, help='images that a candidate is scored on (default: as the config says)')
    parser.add_argument('--budget', type=float, default=0.6, help='fraction of the dense MACs')
    parser.add_argument('--storage', metavar='URL', help='of a server (default: a SQLite file for each run)')
    parser.add_argument('--folder', type=Path, help='where runs go (default: one that is removed)')
    parser.add_argument('--out', type=Path, help='JSON file for the figures')
    args = parser.parse_args()
    figures = environment(args.storage)
    figures |= {'config': Path(args.config).stem, 'trials': args.trials, 'images': args.images, 'budget': args.budget}
    with tempfile.TemporaryDirectory() as temporary:
        folder, runs = args.folder or Path(temporary), []
        unique = datetime.now().strftime('%Y%m%d_%H%M%S')
        for i in range(args.rounds):
            for workers in args.workers:
                name = f'speed_{unique}_{i}_{workers}'
                runs.append(search(args, workers, name, folder / name))
                print(json.dumps(runs[-1]), flush=True)
    text = json.dumps({**figures, 'by workers': summary(runs, args.workers), 'runs': runs}, indent=2)
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + '\n')


if __name__ == '__main__':
    main()
