"""Search how sparse every site of a backbone may be under a budget.

For example, at 60% of the latency of the dense backbone, for a stock config and its trained checkpoint:

    python tools/search_sparsity.py mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py CHECKPOINT --budget 0.6 \\
        --shape 800 1344

Candidates are scored on a part of the training set. A search that was interrupted or killed goes on with the same
command and --resume.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from sparsevit_mm.cli import add_config_options, add_launcher_options, run_tool
from sparsevit_mm.config import drop_pretrained, load_config, sparsify_config
from sparsevit_mm.search.budget import format_cost
from sparsevit_mm.search.costs import COST_MODELS
from sparsevit_mm.search.report import format_sparsity, table_rows
from sparsevit_mm.search.results import Outcome

LOOP = 'sparsevit_mm.SparsitySearchLoop'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', metavar='CONFIG', help='path, or mmdet::..., mmseg::..., mmdet3d::...; stock with a Swin, or ours')
    add('checkpoint', metavar='CHECKPOINT', help='weights to search on, adapted to sparsity or not')
    add('--budget', help="of the backbone's cost: a fraction of dense such as 0.6, or an amount such as 30ms or 60G")
    add('--budget-metric', choices=list(COST_MODELS), help='what is counted (default: latency)')
    add(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='pixels that the cost is meant for (default: first image)',
    )
    add('--batch', type=int, help='images in one forward of the latency (default: 1)')
    add('--dtype', choices=('float32', 'bfloat16', 'float16'), help='of the latency (default: float32)')
    add('--device', help='of the latency, cpu or cuda (default: where the model runs)')
    add('--trials', type=int, help='evaluations in all, those before a resume included (default: 100)')
    add('--search-images', type=int, metavar='N', help='training images to score on (default: half, at most 500)')
    add('--metric', help='name among what the evaluator gives (default: its primary one)')
    add('--choices', nargs='+', type=float, metavar='S', help='sparsities a site may have (default: 0 0.1 ... 0.8)')
    add('--seed', type=int, help='of the search and of the choice of images (default: 0)')
    add('--storage', metavar='URL', help='database of the study (default: study.sqlite3 in the work dir)')
    add('--study-name', metavar='NAME', help='of the study in the database (default: sparsity)')
    add('--work-dir', metavar='DIR', help='where results go (default: work_dirs/NAME_search)')
    add('--resume', action='store_true', help='go on with the study that is there')
    add_config_options(parser)
    add_launcher_options(parser)
    return parser.parse_args(argv)


def search_config(args: argparse.Namespace) -> Config:
    """The config of the run: the user's, sparse, with the search in the place of the test loop.

    Raises:
        ValueError: If there is no Swin, or no budget.
    """
    cfg = sparsify_config(load_config(args.config, args.cfg_options))
    drop_pretrained(cfg)
    given = {
        'budget': _number(args.budget),
        **{key: getattr(args, key) for key in ('budget_metric', 'shape', 'batch', 'dtype', 'device', 'trials')},
        **{key: getattr(args, key) for key in ('search_images', 'metric', 'choices', 'seed', 'storage', 'study_name')},
    }
    loop: dict[str, Any] = dict(cfg.get('test_cfg') or {})
    loop = loop if str(loop.get('type')).endswith('SparsitySearchLoop') else {}
    loop.update({key: value for key, value in given.items() if value is not None}, type=LOOP)
    if 'budget' not in loop:
        raise ValueError('--budget is missing: give a fraction of the dense cost, such as --budget 0.6.')
    loop.update(resume=args.resume, config=args.config, cfg_options=args.cfg_options, checkpoint=args.checkpoint)
    cfg.test_cfg = loop
    for part in ('dataloader', 'evaluator'):  # the runner wants them beside a test loop; this one leaves them alone
        if not cfg.get(f'test_{part}'):
            cfg[f'test_{part}'] = cfg.get(f'val_{part}') or {}
    cfg.load_from, cfg.resume, cfg.launcher = None, False, args.launcher
    return cfg


def _number(text: str | None) -> str | float | None:
    """A fraction as a number, anything else as it is."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return text


def search(args: argparse.Namespace) -> tuple[Outcome, Path]:
    """Builds the runner and lets it search; the outcome and the work dir.

    Raises:
        ValueError: On a mistake in the options, the config, the checkpoint or the data.
    """
    from mmengine.model import is_model_wrapper
    from optuna.exceptions import OptunaError

    from sparsevit_mm.models.checkpoints import load_into
    from sparsevit_mm.runs import build_runner, set_work_dir

    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = search_config(args)
    name = Path(args.config).stem
    name = name if name.endswith('search') else f'{name}_search'
    set_work_dir(cfg, args.config, args.work_dir or str(Path('work_dirs', name)))
    runner = build_runner(cfg)
    load_into(runner.model.module if is_model_wrapper(runner.model) else runner.model, args.checkpoint, whole=True)
    try:
        runner.test()
    except OptunaError as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ValueError(
            f'the storage of the study failed: {reason}. What was told before is kept; mend it (room on the disk, the '
            f'server) and start again with --resume.'
        ) from error
    return runner.test_loop.outcome, Path(cfg.work_dir)


def show(outcome: Outcome, folder: Path) -> None:
    """Prints what was found and where it is."""
    table = Table(title='found within the budget' if outcome.best else 'nothing found within the budget yet')
    for column in ('setting', 'sparsity', outcome.metric_name, 'cost', 'of dense'):
        table.add_column(column, justify='left' if column in ('setting', 'sparsity') else 'right')
    for name, e in table_rows(outcome):
        cost = format_cost(e.cost, outcome.unit)
        values = format_sparsity(e.sparsity), f'{e.accuracy:.4g}', cost, f'{e.cost / outcome.dense_cost:.3f}'
        table.add_row(name, *values, style='bold' if name == 'found' else None)
    console = Console()
    console.print(table)
    for name in ('report.md', 'pareto.png', 'pareto.csv', 'candidates.csv', 'best_config.py'):
        if (folder / name).exists():
            console.print(str(folder / name), soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The tool; returns its exit status."""
    outcome, folder = search(parse_args(argv))
    if outcome is not None:  # on the first rank
        show(outcome, folder)
    return 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
