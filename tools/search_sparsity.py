"""Search how sparse every site of a backbone may be under a budget.

For example, at 60% of the latency of the dense backbone, for a stock config and its trained checkpoint:

    python tools/search_sparsity.py mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py CHECKPOINT --budget 0.6 \\
        --shape 800 1344

From a dense checkpoint to a sparse model it is the second of three steps:

    python tools/train.py CONFIG_WITH_A_SparsityAdaptationHook
    python tools/search_sparsity.py CONFIG ADAPTED_CHECKPOINT --budget 0.6
    python tools/train.py work_dirs/CONFIG_search/best_config.py

Candidates are scored on a part of the training set. A search that was interrupted or killed goes on with the same
command and --resume. To share one among several machines start the same command on each, with --storage naming a
database server; several processes of one machine need no server, but the same work dir.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from sparsevit_mm.cli import add_config_options, add_launcher_options, run_tool
from sparsevit_mm.config import drop_pretrained, load_config, sparsify_config
from sparsevit_mm.registry import type_name
from sparsevit_mm.search.budget import format_cost
from sparsevit_mm.search.command_line import add_search_options, loop_options
from sparsevit_mm.search.costs.table_source import TABLE_FILE
from sparsevit_mm.search.found_configs import BEST, FRONT
from sparsevit_mm.search.report import REPORT_FILES, format_sparsity, table_rows
from sparsevit_mm.search.results import Outcome

LOOP = 'sparsevit_mm.SparsitySearchLoop'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', metavar='CONFIG', help='path, or mmdet::..., mmseg::..., mmdet3d::...; stock with a Swin, or ours')
    add('checkpoint', metavar='CHECKPOINT', help='weights to search on, adapted to sparsity or not')
    add('--work-dir', metavar='DIR', help='where results go (default: work_dirs/NAME_search)')
    add('--resume', action='store_true', help='go on with the study that is there')
    add_search_options(parser)
    add_config_options(parser)
    add_launcher_options(parser)
    return parser.parse_args(argv)


def search_config(args: argparse.Namespace) -> Config:
    """The config of the run: the user's, sparse, with the search in the place of the test loop.

    Raises:
        ValueError: If there is no Swin or no budget, or if options contradict each other.
    """
    cfg = sparsify_config(load_config(args.config, args.cfg_options))
    drop_pretrained(cfg)
    configured = dict(cfg.get('test_cfg') or {})
    loop = loop_options(args, configured if type_name(configured) == 'SparsitySearchLoop' else {})
    loop.update(resume=args.resume, config=args.config, cfg_options=args.cfg_options, checkpoint=args.checkpoint)
    cfg.test_cfg = {**loop, 'type': LOOP}
    for part in ('dataloader', 'evaluator'):  # the runner wants them beside a test loop; this one leaves them alone
        if not cfg.get(f'test_{part}'):
            cfg[f'test_{part}'] = cfg.get(f'val_{part}') or {}
    cfg.load_from, cfg.resume, cfg.launcher = None, False, args.launcher
    return cfg


def search(args: argparse.Namespace) -> tuple[Outcome, Path]:
    """Builds the runner and lets it search; the outcome and the work dir.

    Raises:
        ValueError: On a mistake in the options, the config, the checkpoint or the data.
    """
    from mmengine.model import is_model_wrapper
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    from sparsevit_mm.engine.loops import EvaluationsFailed
    from sparsevit_mm.models.checkpoints import load_into
    from sparsevit_mm.runs import build_runner, set_work_dir
    from sparsevit_mm.search.storage.database import reason_of

    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = search_config(args)
    name = Path(args.config).stem
    name = name if name.endswith('search') else f'{name}_search'
    set_work_dir(cfg, args.config, args.work_dir or str(Path('work_dirs', name)))
    runner = build_runner(cfg)
    load_into(runner.model.module if is_model_wrapper(runner.model) else runner.model, args.checkpoint, whole=True)
    try:
        runner.test()
    except EvaluationsFailed as error:
        raise ValueError(
            f'{error}. What was found before is in {cfg.work_dir}; --debug shows where it failed, and --resume goes on.'
        ) from error
    except (OptunaError, SQLAlchemyError) as error:
        raise ValueError(
            f'the storage of the study failed: {reason_of(error)}. What was told before is kept; mend it (room on the '
            f'disk, the server) and start again with --resume.'
        ) from error
    return runner.test_loop.outcome, Path(cfg.work_dir)


def show(outcome: Outcome, folder: Path) -> None:
    """Prints what was found and where it is."""
    title = 'found within the budget' if outcome.best else 'nothing found within the budget yet'
    table = Table(title=title if outcome.has_budget else 'the front of accuracy and cost')
    for column in ('setting', 'sparsity', outcome.metric_name, 'cost', 'of dense'):
        table.add_column(column, justify='left' if column in ('setting', 'sparsity') else 'right')
    for name, e in table_rows(outcome):
        cost = format_cost(e.cost, outcome.unit)
        values = format_sparsity(e.sparsity), f'{e.accuracy:.4g}', cost, f'{e.cost / outcome.dense_cost:.3f}'
        table.add_row(name, *values, style='bold' if name == 'found' else None)
    console = Console()
    console.print(table)
    for name in (*REPORT_FILES, TABLE_FILE, BEST):
        if (folder / name).exists():
            console.print(str(folder / name), soft_wrap=True)
    if not outcome.has_budget and (configs := list((folder / FRONT).glob('*.py'))):
        console.print(f'{folder / FRONT}{os.sep}: {len(configs)} configs', soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The tool; returns its exit status."""
    outcome, folder = search(parse_args(argv))
    if outcome is not None:  # on the first rank
        show(outcome, folder)
    return 0


if __name__ == '__main__':
    sys.exit(run_tool(main))
