"""Time stock and sparse models against each other, interleaved in one process.

For example, the backbone of a stock config, dense and at sparsity 0 and 0.6:

    python tools/benchmark.py mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py --sparsity 0 0.6 --shape 800 1344
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from sparsevit_mm.cli import add_config_options, run_tool
from sparsevit_mm.cost.benchmark import run_benchmark
from sparsevit_mm.cost.benchmark_report import BenchmarkReport
from sparsevit_mm.cost.budget_check import BudgetVerdict, judge, parse_latency_budget, with_dense
from sparsevit_mm.cost.conditions import (
    DTYPES,
    check_device,
    check_dtype,
    check_image_shape,
    check_schedule,
    check_threads,
)
from sparsevit_mm.cost.images import find_images
from sparsevit_mm.cost.subjects import load_subject, parse_sparsity


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('configs', nargs='+', metavar='CONFIG', help='path, or mmdet::..., mmseg::..., mmdet3d::...; stock or ours')
    add(
        '--sparsity',
        nargs='+',
        metavar='S',
        help="what to time ours at: 0.6 for all sites, or .6,0,.2,.4,.5,0 with one a site (default: the configs' own)",
    )
    add('--shape', nargs=2, type=int, default=(800, 1344), metavar=('H', 'W'), help='pixels (default: 800 1344)')
    add('--batch', type=int, default=1, help='images in one forward (default: 1)')
    add('--dtype', choices=DTYPES, default='float32', help='half precision is by autocast (default: float32)')
    add('--device', default='cpu', help='cpu or cuda (default: cpu)')
    add('--whole-model', action='store_true', help='time the whole detector or segmentor and its backbone')
    add('--no-stock', dest='stock', action='store_false', help='leave out the stock backbone, so ours comes first')
    add('--rounds', type=int, default=10, help='interleaved rounds, each one value (default: 10)')
    add('--min-round-time', type=float, default=0.2, metavar='SECONDS', help='of a round (default: 0.2)')
    add('--threads', type=int, help="torch's intra-op threads (default: as they are)")
    add('--checkpoint', metavar='FILE', help='weights of all configs (default: random ones)')
    add('--images', nargs='+', metavar='PATH', help='image files or folders to run, resized (default: noise)')
    add('--max-images', type=int, default=16, metavar='N', help='use the first N of them (default: 16)')
    add(
        '--assert-budget',
        metavar='MS',
        help='exit with 1 if ours takes longer: 30 or 30ms, or 60%% of ours at sparsity 0',
    )
    add('--json', type=Path, metavar='OUT', help='write the figures and their environment here')
    add_config_options(parser)
    return parser.parse_args(argv)


def benchmark(args: argparse.Namespace) -> tuple[BenchmarkReport, tuple[BudgetVerdict, ...]]:
    """Build what is asked for, time it, and hold it to the budget if there is one.

    Raises:
        ValueError: On a mistake in the options or the configs.
    """
    check_image_shape(args.shape, args.batch)
    check_dtype(args.dtype, check_device(args.device))
    check_schedule(args.rounds, args.min_round_time)
    check_threads(args.threads)
    images = None if args.images is None else find_images(args.images)[: args.max_images]
    budget = None if args.assert_budget is None else parse_latency_budget(args.assert_budget)
    sparsities = args.sparsity and [parse_sparsity(text) for text in args.sparsity]
    subjects = [
        load_subject(
            config,
            sparsities,
            stock=args.stock,
            whole_model=args.whole_model,
            cfg_options=args.cfg_options,
            checkpoint=args.checkpoint,
        )
        for config in args.configs
    ]
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task('warm-up', total=args.rounds)
        report = run_benchmark(
            [with_dense(subject) for subject in subjects] if budget and budget.relative else subjects,
            tuple(args.shape),
            batch=args.batch,
            dtype=args.dtype,
            device=args.device,
            rounds=args.rounds,
            min_round_time=args.min_round_time,
            threads=args.threads,
            images=images,
            progress=lambda done, rounds: bar.update(task, completed=done, description='rounds'),
        )
    return report, judge(report, budget, subjects) if budget else ()


def show(report: BenchmarkReport, verdicts: Sequence[BudgetVerdict], console: Console) -> None:
    """Print the table, what there is to say about it, and what keeps the budget."""
    console.print(report.table())
    for note in report.notes():
        console.print(note)
    for warning in report.warnings():
        console.print(f'Warning: {warning}', style='yellow')
    for finding in report.findings():
        console.print(finding, style='bold')
    for verdict in verdicts:
        console.print(verdict.sentence(), style='green' if verdict.kept else 'bold red')


def write_json(report: BenchmarkReport, verdicts: Sequence[BudgetVerdict], path: Path) -> None:
    """Write all figures; the folder is made if need be."""
    values = report.to_dict()
    if verdicts:
        values['budget'] = [verdict.to_dict() for verdict in verdicts]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + '\n')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 1 if something is over the budget, else 0.

    Raises:
        ValueError: On a mistake in the options or the configs.
        OSError: If the JSON file cannot be written.
    """
    args = parse_args(argv)
    console = Console(soft_wrap=True, highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
    if args.json is not None:
        _check_writable(args.json)
    report, verdicts = benchmark(args)
    show(report, verdicts, console)
    if args.json is not None:
        write_json(report, verdicts, args.json)
        console.print(f'Written to {args.json}')
    return int(not all(verdict.kept for verdict in verdicts))


def _check_writable(path: Path) -> None:
    """Before anything is measured.

    Raises:
        OSError: If the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a'):
        pass


if __name__ == '__main__':
    sys.exit(run_tool(main))
