"""What the search is worth: its best setting against that of random search and the best uniform one, over seeds.

All of them keep the same budget of MACs, make the same number of evaluations on the same weights and images, and are
scored by the metric that they search for. Every setting is evaluated once, on all rungs, and kept in a file, so that a
stopped comparison goes on where it was and seeds share what they have in common. For example:

    python docs/scripts/compare_search.py \
        configs/demo/upernet_swin-mini-p4-w7_800i_demo-448x448_sparse-search.py ADAPTED_CHECKPOINT \
        --choices 0 0.2 0.4 0.6 0.8 --trials 20 --out docs/results/search_demo.json

What is compared:

- ``search``: proposals of the search, each candidate scored on all images;
- ``search, rungs``: the same, candidates given up after part of the images (--rungs);
- ``random``: settings within the budget, each as likely as the other;
- ``random, edge``: settings that use the budget up, each as likely as the other;
- ``nsga2``: Optuna's own NSGA-II for accuracy under the constraint, its proposals sorted within stages;
- ``uniform``: the best of the settings with one sparsity for all sites.

The dense reference is not counted, nor what a method proposes and does not evaluate.
"""

import argparse
import json
import random
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import optuna

from sparsevit_mm.apis import drop_pretrained, load_config
from sparsevit_mm.cost.environment import Environment
from sparsevit_mm.engine.loops.scoring import Scorer
from sparsevit_mm.models import find_sparse_backbone
from sparsevit_mm.models.checkpoints import load_into
from sparsevit_mm.runs import build_runner, set_work_dir
from sparsevit_mm.search import Budget, SparsityStudy, pick_metric
from sparsevit_mm.search.costs import MacsCost
from sparsevit_mm.search.feasible import CostedSpace, cost_space
from sparsevit_mm.search.sampler import distributions_of

Vector = tuple[float, ...]


class Landscape:
    """Accuracies of settings on the images of a search, evaluated where they are asked for and kept in a file."""

    def __init__(self, args: argparse.Namespace) -> None:
        cfg = load_config(args.config, args.cfg_options)
        drop_pretrained(cfg)
        cfg.log_level = 'ERROR'
        loop = dict(type='sparsevit_mm.SparsitySearchLoop', budget=args.budget, budget_metric='macs')
        cfg.test_cfg = dict(**loop, search_images=args.search_images, rungs=args.rungs, choices=args.choices)
        set_work_dir(cfg, args.config, args.work_dir)
        runner = build_runner(cfg)
        load_into(runner.model, args.checkpoint, whole=True)
        self.loop = runner._test_loop = runner.build_test_loop(cfg.test_cfg)
        runner.call_hook('before_run')
        self.backbone = find_sparse_backbone(runner.model)
        self.space = self.backbone.sparsity_space(args.choices)
        self.scorer = Scorer(self.loop, self.loop.split)
        self.shape = tuple(args.shape or self.loop._image_shape(runner.model))
        self.cost = MacsCost(self.backbone, self.shape, choices=self.space.choices)
        self._file = Path(args.cache)
        self._known: dict[Vector, dict[str, float]] = {}
        if self._file.exists():
            lines = map(json.loads, self._file.read_text().splitlines())
            self._known = {tuple(line['sparsity']): line['accuracies'] for line in lines}

    def accuracies(self, vector: Vector) -> dict[int, float]:
        """The metric after each rung."""
        if vector not in self._known:
            self.backbone.sparsity = vector
            start, steps = time.perf_counter(), dict(self.scorer.steps())
            self.metric = pick_metric(steps[self.scorer.images[-1]])
            self._known[vector] = {str(images): float(metrics[self.metric]) for images, metrics in steps.items()}
            line = dict(sparsity=vector, accuracies=self._known[vector], seconds=time.perf_counter() - start)
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with open(self._file, 'a') as file:
                file.write(json.dumps(line) + '\n')
        return {int(images): accuracy for images, accuracy in self._known[vector].items()}

    def __call__(self, vector: Vector) -> float:
        return self.accuracies(vector)[self.scorer.images[-1]]


def by_search(landscape: Landscape, budget: float, trials: int, seed: int, rungs: bool) -> tuple[float, Vector, float]:
    """Best accuracy, its setting, and the share of image evaluations that it took."""
    images = landscape.scorer.images
    study = SparsityStudy(
        landscape.space, landscape.cost, Budget(budget), trials=trials, seed=seed, rungs=images if rungs else ()
    )
    while (candidate := study.ask()) is not None:
        accuracies = landscape.accuracies(candidate.sparsity)
        stops = (study.report(candidate, n, accuracies[n]) for n in images[:-1] if rungs)
        if not any(stops):
            study.tell(candidate, accuracies[images[-1]])
    outcome = study.outcome()
    return outcome.best.accuracy, outcome.best.sparsity, 1 - outcome.saved


def by_drawing(landscape: Landscape, settings: Sequence[Vector], trials: int, seed: int) -> tuple[float, Vector, float]:
    """The best of settings that are drawn without repetition."""
    drawn = random.Random(seed).sample(list(settings), min(trials, len(settings)))
    best = max(drawn, key=landscape)
    return landscape(best), best, 1.0


def by_nsga2(landscape: Landscape, limit: float, trials: int, seed: int) -> tuple[float, Vector, float]:
    """Optuna's NSGA-II; a setting that is over budget or known is told so and costs no evaluation."""
    sampler = optuna.samplers.NSGAIISampler(population_size=max(6, trials // 4), seed=seed)
    study = optuna.create_study(direction='maximize', sampler=sampler)
    sites, found = landscape.space.layout.sites, {}
    for _ in range(50 * trials):
        if len(found) == trials:
            break
        trial = study.ask(distributions_of(landscape.space))
        values = [trial.params[site] for site in sites]
        for span in landscape.space.layout.spans:
            values[span] = sorted(values[span])
        vector = tuple(values)
        over = landscape.cost.cost(vector) - limit
        trial.set_constraint('budget', over)
        if over > 0 or vector not in landscape.space:
            study.tell(trial, 0.0)
            continue
        found[vector] = landscape(vector)
        study.tell(trial, found[vector])
    best = max(found, key=found.get)
    return found[best], best, 1.0


def methods(
    landscape: Landscape, costed: CostedSpace, args: argparse.Namespace
) -> dict[str, Callable[[int], tuple[float, Vector, float]]]:
    """Everything that is compared, as functions of the seed."""
    limit = args.budget * landscape.cost.cost(0.0)
    feasible = [vector for vector in landscape.space if landscape.cost.cost(vector) <= limit]
    uniform = [vector for vector in landscape.space.uniform() if landscape.cost.cost(vector) <= limit]
    budget, trials = args.budget, args.trials
    compared = {
        'search': lambda seed: by_search(landscape, budget, trials, seed, rungs=False),
        'search, rungs': lambda seed: by_search(landscape, budget, trials, seed, rungs=True),
        'random': lambda seed: by_drawing(landscape, feasible, trials, seed),
        'random, edge': lambda seed: by_drawing(landscape, costed.edge(limit), trials, seed),
        'nsga2': lambda seed: by_nsga2(landscape, limit, trials, seed),
        'uniform': lambda seed: by_drawing(landscape, uniform, len(uniform), seed),
    }
    return {name: compared[name] for name in args.methods or compared}


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Runs all methods with all seeds; the record for the file of results."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    landscape = Landscape(args)
    costed = cost_space(landscape.space, landscape.cost.cost)
    limit = args.budget * landscape.cost.cost(0.0)
    record = {
        'config': args.config,
        'budget': f'{args.budget:g} of the MACs of dense',
        'trials': args.trials,
        'images': list(landscape.scorer.images),
        'choices': list(landscape.space.choices),
        'settings': len(landscape.space),
        'within_budget': costed.count_within(limit),
        'edge': len(costed.edge(limit)),
        'dense': landscape((0.0,) * len(landscape.space.layout.sites)),
        'environment': Environment.current(device='cpu', dtype='float32', batch=1, shape=landscape.shape).to_dict(),
        'methods': {},
    }
    for name, method in methods(landscape, costed, args).items():
        runs = [method(seed) for seed in range(args.seeds)]
        accuracies = [accuracy for accuracy, _, _ in runs]
        record['methods'][name] = {
            'accuracies': [round(accuracy, 4) for accuracy in accuracies],
            'mean': round(mean(accuracies), 4),
            'least': round(min(accuracies), 4),
            'greatest': round(max(accuracies), 4),
            'work': round(mean(work for _, _, work in runs), 4),
            'settings': [list(vector) for _, vector, _ in runs],
        }
        print(f'{name}: {mean(accuracies):.2f} ({min(accuracies):.2f} to {max(accuracies):.2f})', flush=True)
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(record, indent=2) + '\n')
    return record


def lines(record: dict[str, Any], name: str) -> list[str]:
    """The rows of docs/search.md, one a method.

    Args:
        record: What :func:`compare` gives.
        name: What was searched.
    """
    rows = []
    for method, found in record['methods'].items():
        trials = 'all there are' if method == 'uniform' else record['trials']
        spread = f'{found["mean"]:.2f} ({found["least"]:.2f} to {found["greatest"]:.2f})'
        rows.append(f'| {name} | {method} | {trials} | {found["work"]:.0%} | {spread} |')
    return rows


def parse_args() -> argparse.Namespace:
    """The options of the command line."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config')
    add('checkpoint')
    add('--budget', type=float, default=0.6, help='of the MACs of dense')
    add('--trials', type=int, default=20, help='evaluations of each method')
    add('--seeds', type=int, default=5, help='how many')
    add('--search-images', type=int, default=40)
    add('--rungs', nargs='+', type=float, default=[0.25, 0.5])
    add('--choices', nargs='+', type=float, default=[0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    add('--shape', nargs=2, type=int, help='pixels that MACs are counted for (default: the first image)')
    add('--methods', nargs='+', help='some of those above')
    add('--work-dir', default='work_dirs/compare_search')
    add('--cache', default='work_dirs/compare_search/settings.jsonl', help='evaluated settings')
    add('--out', type=Path, help='JSON file of results')
    add('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args()


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    compare(parse_args())
