"""What a storage bears: seconds of asking, telling and signs of life beside many workers.

Fills a new study with candidates that others have finished and candidates that others are at, lets a process beat for
the latter, and then asks and tells through SparsityStudy as one more worker, or several at once. No model is needed;
the space is that of Swin-T. Run it against an empty database of a server, or a new file:

    python docs/scripts/storage_load.py postgresql+psycopg://me@host/load --running 1000 --finished 5000
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import random
import time
import warnings
from collections.abc import Sequence
from statistics import median
from typing import Any

import optuna
from rich.progress import track

from sparsevit_mm.search import Budget, SparsityStudy
from sparsevit_mm.search.sampler import distributions_of
from sparsevit_mm.search.storage import open_storage
from sparsevit_mm.sparsity import SparsityLayout, SparsitySpace

SITES = ('stage1.pair1', 'stage2.pair1', 'stage3.pair1', 'stage3.pair2', 'stage3.pair3', 'stage4.pair1')
SHARES = (0.26, 0.18, 0.13, 0.13, 0.13, 0.17)  # of the cost of a dense Swin-T, roughly
BUDGET = 0.6
NAME = 'load'
HEARTBEAT, GRACE = 30, 120


class ShareCost:
    """A site costs its share of what it computes."""

    name, unit = 'macs', 'MACs'

    def calibrate(self, state: dict[str, Any] | None = None) -> dict[str, Any]:
        return state or {'dense': sum(SHARES)}

    def cost(self, sparsity: Sequence[float]) -> float:
        return sum(share * (1 - value) for share, value in zip(SHARES, sparsity))

    def conditions(self) -> dict[str, Any]:
        return {}


def accuracy(sparsity: Sequence[float]) -> float:
    """Falls with the sparsity, in each site by another measure, and with some noise."""
    loss = sum((2 + i % 3) * value**2 for i, value in enumerate(sparsity))
    return 45 - loss + random.Random(str(sparsity)).gauss(0, 0.2)


def open_study(url: str) -> SparsityStudy:
    """Joins the study, or sets it up."""
    space = SparsitySpace(SparsityLayout(SITES, (1, 1, 3, 1)))
    return SparsityStudy(
        space, ShareCost(), Budget(BUDGET), storage=url, resume=True, name=NAME, heartbeat=HEARTBEAT, grace=GRACE
    )


def fill(study: SparsityStudy, url: str, running: int, finished: int) -> list[int]:
    """Adds the candidates of others; returns Optuna's ids of those that run."""
    storage = open_storage(url, heartbeat=HEARTBEAT, grace=GRACE)
    within = [vector for vector in study.space if study.cost.cost(vector) <= study.limit]
    chosen = random.Random(0).sample(within, running + finished)
    distributions = distributions_of(study.space)
    optuna_study = optuna.load_study(study_name=NAME, storage=storage)
    for i, vector in enumerate(track(chosen, 'filling the study')):
        cost, scored = study.cost.cost(vector), i < finished
        result = {'accuracy': accuracy(vector), 'metrics': {'coco/bbox_mAP': accuracy(vector)}, 'seconds': 600.0}
        trial = optuna.trial.create_trial(
            state=optuna.trial.TrialState.COMPLETE if scored else optuna.trial.TrialState.RUNNING,
            values=[result['accuracy']] if scored else None,
            params=dict(zip(SITES, vector)),
            distributions=distributions,
            user_attrs={'cost': cost, 'worker': f'host{i % 1000}:1'} | ({'result': result} if scored else {}),
            constraints={'budget': cost - study.limit},
        )
        trial_id = storage.create_new_trial(optuna_study._study_id, trial)
        if not scored:
            storage.record_heartbeat(trial_id)
    states = [optuna.trial.TrialState.RUNNING]
    return [trial._trial_id for trial in optuna_study.get_trials(deepcopy=False, states=states)]


def beat(url: str, trials: Sequence[int], late: Any) -> None:
    """Beats for trials in turn, each once an interval; notes how far behind it is, in seconds."""
    storage = open_storage(url, heartbeat=HEARTBEAT, grace=GRACE)
    begun = time.monotonic()
    for i in range(10**9):
        due = begun + i * HEARTBEAT / len(trials)
        time.sleep(max(0.0, due - time.monotonic()))
        storage.record_heartbeat(trials[i % len(trials)])
        late.value = time.monotonic() - due


def work(url: str, rounds: int, trial_id: int, results: Any) -> None:
    """Asks and tells without an evaluation; gives the seconds of each step."""
    warnings.simplefilter('ignore')
    seconds: dict[str, list[float]] = {'open': [], 'first ask': [], 'ask': [], 'beat': [], 'tell': []}

    def timed(step: str, call: Any, *arguments: Any) -> Any:
        start = time.perf_counter()
        value = call(*arguments)
        seconds[step].append(time.perf_counter() - start)
        return value

    study = timed('open', open_study, url)
    storage = open_storage(url, heartbeat=HEARTBEAT, grace=GRACE)
    for i in range(rounds):
        candidate = timed('first ask' if i == 0 else 'ask', study.ask)
        timed('beat', storage.record_heartbeat, trial_id)
        timed('tell', study.tell, candidate, {'coco/bbox_mAP': accuracy(candidate.sparsity)})
    study.close()
    results.put(seconds)


def measure(url: str, workers: int, rounds: int, trial_id: int) -> dict[str, Any]:
    """Median and worst seconds of each step over all workers, and candidates a second."""
    context = multiprocessing.get_context('spawn')
    results = context.SimpleQueue()
    processes = [context.Process(target=work, args=(url, rounds, trial_id, results)) for _ in range(workers)]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    steps = {step: [value for seconds in found for value in seconds[step]] for step in found[0]}
    busy = max(sum(seconds['first ask']) + sum(seconds['ask']) + sum(seconds['tell']) for seconds in found)
    return {
        'workers': workers,
        'seconds': {s: {'median': median(v), 'worst': max(v), 'count': len(v)} for s, v in steps.items() if v},
        'candidates a second': workers * rounds / busy,
    }


def environment(url: str) -> dict[str, Any]:
    """What the figures were measured on."""
    import sqlalchemy

    with sqlalchemy.create_engine(url).connect() as connection:
        version = '.'.join(map(str, connection.dialect.server_version_info))
        server = f'{connection.dialect.name} {version}'
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    return {
        'server': server,
        'cores': len(os.sched_getaffinity(0)),
        'memory': f'{memory:.0f} GiB',
        'machine': platform.machine(),
        'python': platform.python_version(),
        'optuna': optuna.__version__,
        'load before': os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('url', help='storage; a study in it that is called "load" is added to')
    parser.add_argument('--running', type=int, default=1000, help='candidates that others are at')
    parser.add_argument('--finished', type=int, default=5000, help='candidates that others have finished')
    parser.add_argument('--rounds', type=int, default=30, help='candidates that each worker asks for and tells')
    parser.add_argument('--workers', type=int, nargs='+', default=[1, 4], help='workers that ask at once')
    parser.add_argument('--out', help='JSON file for the figures')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    figures = environment(args.url)
    study = open_study(args.url)
    start = time.perf_counter()
    running = fill(study, args.url, args.running, args.finished)
    study.close()
    figures |= {'running': args.running, 'finished': args.finished, 'filled in': time.perf_counter() - start}
    context = multiprocessing.get_context('spawn')
    late = context.Value('d', math.nan)
    beater = context.Process(target=beat, args=(args.url, running, late), daemon=True)
    beater.start()
    figures['measured'] = []
    for workers in args.workers:
        figures['measured'].append(measure(args.url, workers, args.rounds, running[0]) | {'beats late by': late.value})
    beater.kill()
    text = json.dumps(figures, indent=2)
    print(text)
    if args.out:
        with open(args.out, 'w') as file:
            file.write(text + '\n')


if __name__ == '__main__':
    main()
