"""The whole way on the embedded demo set: train dense, adapt, search, compare.

Every step leaves its result in the work dir and in ``quickstart.json``; a second start goes on where the first one
was. The numbers of the table are those of the validation pictures, which neither training nor search has seen.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.console import Console

from ..apis import build_model, load_config
from ..datasets import demo
from ..files import list_images, written_whole
from ..models.checkpoints import load_into
from ..runs import build_runner, evaluate, set_resume
from .machine import fastest_settings
from .progress import ShowProgress, progress_bar, show_search_lines
from .table import Row, markdown

__all__ = ['FULL', 'SMOKE', 'Plan', 'Quickstart']

STEM = 'upernet_swin-mini-p4-w7_800i_demo-448x448'
SHAPE = (448, 448)


@dataclass(frozen=True)
class Plan:
    """How much of everything.

    Args:
        dense_iters: Training steps of the dense model.
        adapt_iters: Training steps of the adaptation.
        budget: Latency as a fraction of dense.
        trials: Evaluations of the search.
        search_images: Training pictures that candidates are scored on.
        val_images: Validation pictures of the table, None for all.
        rounds: Interleaved rounds of the latencies in the table.
        latency_rounds: Values of each latency that the search goes by, None for what some minutes allow.
    """

    dense_iters: int
    adapt_iters: int
    budget: float
    trials: int
    search_images: int
    val_images: int | None
    rounds: int
    latency_rounds: int | None


FULL = Plan(
    dense_iters=700,
    adapt_iters=250,
    budget=0.6,
    trials=30,
    search_images=40,
    val_images=None,
    rounds=20,
    latency_rounds=None,
)
SMOKE = Plan(
    dense_iters=12,
    adapt_iters=4,
    budget=0.8,
    trials=5,
    search_images=4,
    val_images=6,
    rounds=3,
    latency_rounds=3,
)


class Quickstart:
    """Runs the steps that are not done yet.

    Args:
        work_dir: Where everything goes.
        configs: Folder with the configs of the project.
        plan: How much of everything.
        console: Where progress is shown.

    Raises:
        ValueError: If the work dir holds a quickstart of another plan.
        OSError: If it cannot be written to.
    """

    def __init__(self, work_dir: Path, configs: Path, plan: Plan, console: Console) -> None:
        self.work_dir, self.configs, self.plan, self.console = work_dir, configs / 'demo', plan, console
        work_dir.mkdir(parents=True, exist_ok=True)
        self._file = work_dir / 'quickstart.json'
        self._state: dict[str, Any] = self._load()
        known = self._state.setdefault('plan', asdict(plan))
        if known != asdict(plan):
            different = ', '.join(
                f'{k}={v} (now {asdict(plan).get(k)})' for k, v in known.items() if v != asdict(plan).get(k)
            )
            raise ValueError(
                f'{work_dir} holds a quickstart of other sizes: {different}. Choose another --work-dir, or delete it.'
            )
        self._save()

    def run(self) -> list[Row]:
        """All steps; returns the table."""
        self._step('data', 'make the demo set', self._make_data)
        self._step('machine', 'try how this machine trains fastest', self._try_machine)
        torch.set_num_threads(self._value('machine')['threads'])
        self._step('dense', 'train a small dense Swin segmentor', self._train_dense)
        self._step('adapted', 'adapt it to all sparsities', self._adapt)
        self._step('found', f'search for a sparsity at {self.plan.budget:.0%} of the dense latency', self._search)
        self._step('rows', 'compare on the validation pictures', self._compare)
        self._step('pictures', 'draw what is computed', self._draw)
        rows = [Row(**{**row, 'sparsity': tuple(row['sparsity'])}) for row in self._value('rows')]
        (self.work_dir / 'results.md').write_text(markdown(rows))
        return rows

    # Steps and their state

    def _step(self, key: str, title: str, work: Callable[[], Any]) -> None:
        if key in self._state:
            self.console.print(f'[green]done before[/]  {title} ({self._state[key]["seconds"]:.0f} s)')
            return
        self.console.print(f'[bold]now[/]          {title}')
        start = time.monotonic()
        value = work()
        self._state[key] = dict(value=value, seconds=time.monotonic() - start)
        self._save()
        self.console.print(f'[green]done[/]         {title} ({self._state[key]["seconds"]:.0f} s)')

    def _load(self) -> dict[str, Any]:
        if not self._file.exists():
            return {}
        try:
            return json.loads(self._file.read_text())
        except ValueError as error:
            raise ValueError(f'{self._file} cannot be read ({error}). Delete {self.work_dir} to begin anew.') from error

    def _save(self) -> None:
        with written_whole(self._file) as unfinished:
            unfinished.write_text(json.dumps(self._state, indent=2))

    def _value(self, key: str) -> Any:
        return self._state[key]['value']

    # The steps

    def _make_data(self) -> str:
        with progress_bar(self.console) as bar:
            task = bar.add_task('pictures', total=None)
            return str(demo.prepare_demo(progress=lambda n, total: bar.update(task, completed=n, total=total)))

    def _try_machine(self) -> dict[str, Any]:
        backbone = build_model(self._config('machine')).backbone
        settings = fastest_settings(backbone.train(), torch.randn(2, 3, *SHAPE))
        precision = 'bfloat16' if settings.bfloat16 else 'float32'
        self.console.print(f'             {settings.threads} thread(s), training in {precision}')
        return asdict(settings)

    def _train_dense(self) -> str:
        return self._train('dense', '', self.plan.dense_iters, start=None)

    def _adapt(self) -> str:
        return self._train('adapted', '_sparse-adapt', self.plan.adapt_iters, start=self._value('dense'))

    def _config(self, step: str, suffix: str = '') -> Config:
        cfg = load_config(self.configs / f'{STEM}{suffix}.py')
        cfg.work_dir = str(self.work_dir / step)
        cfg.experiment_name = cfg.visualizer.name = f'quickstart_{step}'  # several runners in a process
        cfg.log_level = 'ERROR'
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            loader.dataset.data_root = self._value('data')
        return cfg

    def _train(self, step: str, suffix: str, iters: int, start: str | None) -> str:
        """Trains without validation; returns the checkpoint."""
        cfg = self._config(step, suffix)
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iters, val_interval=iters + 1)
        cfg.load_from, cfg.val_cfg, cfg.val_dataloader, cfg.val_evaluator = start, None, None, None
        _fit_schedule(cfg.param_scheduler, iters)
        if not self._value('machine')['bfloat16']:
            cfg.optim_wrapper.type = 'OptimWrapper'
        latest = Path(cfg.work_dir, 'last_checkpoint')
        if latest.exists():
            set_resume(cfg, 'auto')
        runner = build_runner(cfg)
        with progress_bar(self.console) as bar:
            runner.register_hook(ShowProgress(bar, self.console))
            runner.train()
        return latest.read_text()

    def _search(self) -> dict[str, Any]:
        """The search, on training pictures; returns the found and the uniform sparsity."""
        cfg = self._config('search', '_sparse-search')
        checkpoint = self._value('adapted')
        cfg.load_from = None  # its base names the weights of the dense model
        cfg.test_cfg.update(
            budget=self.plan.budget,
            trials=self.plan.trials,
            search_images=self.plan.search_images,
            latency_rounds=self.plan.latency_rounds,
            resume=Path(cfg.work_dir, 'study.sqlite3').exists(),
            config=str(self.configs / f'{STEM}_sparse-search.py'),
            checkpoint=checkpoint,
        )
        runner = build_runner(cfg)
        if not self.console.is_terminal:  # where there is, the search draws a bar
            show_search_lines(runner.logger)
        load_into(runner.model, checkpoint)
        runner.test()
        outcome = runner.test_loop.outcome
        uniform = [e for e in outcome.uniform if e.feasible]
        if outcome.best is None or not uniform:
            raise ValueError(f'no setting within {self.plan.budget:.0%} of the dense latency was found.')
        return dict(
            sites=outcome.sites,
            found=outcome.best.sparsity,
            uniform=max(uniform, key=lambda e: e.cost).sparsity,  # the one that uses the budget best
        )

    def _compare(self) -> list[dict[str, Any]]:
        from ..cost import count_macs, measure_latency

        found = self._value('found')
        zero = (0.0,) * len(found['sites'])
        settings = {
            'dense': (zero, self._value('dense')),
            'uniform': (found['uniform'], self._value('adapted')),
            'found': (found['found'], self._value('adapted')),
        }
        cfg = self._config('compare')
        backbone = build_model(cfg).backbone
        with progress_bar(self.console) as bar:
            task = bar.add_task('latency', total=None)
            records = measure_latency(
                backbone,
                SHAPE,
                sparsities=[sparsity for sparsity, _ in settings.values()],
                rounds=self.plan.rounds,
                progress=lambda n, total: bar.update(task, completed=n, total=total),
            )
            task = bar.add_task('accuracy', total=len(settings))
            rows = []
            for (name, (sparsity, checkpoint)), record in zip(settings.items(), records):
                backbone.sparsity = sparsity
                miou = self._miou(name, sparsity, checkpoint)
                macs = count_macs(backbone, SHAPE)
                rows.append(Row(name, tuple(sparsity), miou, macs, record.median, (record.q1, record.q3)))
                bar.advance(task)
        return [asdict(row) for row in rows]

    def _miou(self, name: str, sparsity: Sequence[float], checkpoint: str) -> float:
        cfg = self._config(f'compare_{name}')
        cfg.model.backbone.sparsity = tuple(sparsity)
        cfg.test_dataloader.dataset.indices = self.plan.val_images
        return float(evaluate(cfg, checkpoint)['mIoU'])

    def _draw(self) -> list[str]:
        """Overlays of the first validation pictures at the found sparsity."""
        from ..visualization import ImageReader, draw_selection

        cfg = self._config('pictures')
        cfg.model.backbone.sparsity = tuple(self._value('found')['found'])
        model = build_model(cfg, self._value('adapted'))
        read = ImageReader(model.cfg, model)
        folders = []
        for path in list_images([Path(self._value('data'), 'images', 'val')])[:3]:
            item = read(path)
            with model.backbone.record_selections() as records:
                model.backbone(item.tensor)
            pictures = draw_selection(
                item.picture,
                records,
                input_size=item.size,
                sparsity=dict(zip(model.backbone.sites, model.backbone.sparsity)),
                title=path.name,
            )
            folders.append(self.work_dir / 'pictures' / path.stem)
            pictures.save(folders[-1])
        return [str(folder / 'overview.png') for folder in folders]

    def results(self) -> list[Path]:
        """What a user may want to open."""
        search, pictures = self.work_dir / 'search', map(Path, self._value('pictures'))
        found = [search / name for name in ('report.md', 'pareto.png', 'best_config.py')]
        return [self.work_dir / 'results.md', *found, *pictures]


def _fit_schedule(schedulers: Sequence[dict], iters: int) -> None:
    """Shortens the last scheduler to a run of fewer steps, and its warm-up to a tenth of it."""
    if len(schedulers) > 1:
        schedulers[0]['end'] = schedulers[1]['begin'] = min(schedulers[0]['end'], max(1, iters // 10))
    schedulers[-1]['end'] = iters
