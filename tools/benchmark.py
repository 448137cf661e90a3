"""Time stock and sparse models against each other, interleaved in one process.

For example, the backbone of a stock config, dense and at sparsity 0 and 0.6:

    python tools/benchmark.py mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py --sparsity 0 0.6 --shape 800 1344

Or a suite, whose figures are kept in a file that goes on where it was interrupted:

    python tools/benchmark.py --suite swin-coco --batch 1 --dtype float32
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from sparsevit_mm.cli import add_config_options, run_tool
from sparsevit_mm.cost.benchmark import check_together, run_benchmark
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
from sparsevit_mm.cost.modes import BACKENDS, MODES, ONNXRUNTIME, check_modes
from sparsevit_mm.cost.subjects import load_subject, parse_sparsity
from sparsevit_mm.cost.suite_file import CaseResult
from sparsevit_mm.cost.suite_run import run_suite, select_cases, summary
from sparsevit_mm.cost.suites import SUITES, SuiteCase, suite_entries
from sparsevit_mm.files import list_images

NOT_IN_SUITES = (
    *('configs', 'shape', 'whole_model', 'train', 'stock', 'optional_stock', 'checkpoint', 'images'),
    *('max_images', 'assert_budget', 'json', 'cfg_options', 'backend'),
)
ONLY_IN_SUITES = ('out', 'case', 'again', 'list')


def make_parser() -> argparse.ArgumentParser:
    """The options of the command line; those that were not given are None or False."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('configs', nargs='*', metavar='CONFIG', help='path, or mmdet::..., mmseg::..., mmdet3d::...; stock or ours')
    add(
        '--sparsity',
        nargs='+',
        metavar='S',
        help="what to time ours at: 0.6 for all sites, or .6,0,.2,.4,.5,0 with one a site (default: the configs' own)",
    )
    add('--shape', nargs=2, type=int, metavar=('H', 'W'), help='pixels (default: 800 1344)')
    add('--batch', nargs='+', type=int, help='images in one forward (default: 1)')
    add('--dtype', nargs='+', choices=DTYPES, help='half precision is by autocast (default: float32)')
    add('--mode', nargs='+', choices=MODES, help='how backbones are run; several are interleaved (default: eager)')
    add('--backend', nargs='+', choices=BACKENDS, help='what runs backbones; both are interleaved (default: torch)')
    add('--device', default='cpu', help='cpu or cuda (default: cpu)')
    add('--whole-model', action='store_true', help='time the whole detector or segmentor and its backbone')
    add('--train', action='store_true', help='time a training step of the backbone: forward and backward')
    add('--roof', action='store_true', help='time the matrix products of ours alone too')
    add('--no-stock', dest='stock', action='store_false', help='leave out the stock backbone, so ours comes first')
    add('--optional-stock', action='store_true', help='leave it out only where its package is not installed')
    add('--rounds', type=int, default=10, help='interleaved rounds, each one value (default: 10)')
    add('--min-round-time', type=float, default=0.2, metavar='SECONDS', help='of a round (default: 0.2)')
    add('--threads', type=int, help="torch's intra-op threads (default: as they are)")
    add('--checkpoint', metavar='FILE', help='weights of all configs (default: random ones)')
    add('--images', nargs='+', metavar='PATH', help='image files or folders to run, resized (default: noise)')
    add('--max-images', type=int, metavar='N', help='use the first N of them (default: 16)')
    add(
        '--assert-budget',
        metavar='MS',
        help='exit with 1 if ours takes longer: 30 or 30ms, or 60%% of ours at sparsity 0',
    )
    add('--json', type=Path, metavar='OUT', help='write the figures and their environment here')
    suite = parser.add_argument_group('suites', 'instead of configs; narrowed by --batch, --dtype, --mode, --sparsity')
    add = suite.add_argument
    add('--suite', metavar='NAME', help=f'the benchmarks of the project: {", ".join(SUITES)}')
    add('--case', nargs='+', metavar='PART', help='only cases with this in their name; * stands for anything')
    add('--out', type=Path, metavar='DIR', help='folder of the file of a suite (default: benchmarks)')
    add('--again', action='store_true', help='also time cases that are in the file already')
    add('--list', action='store_true', help='print the cases and time nothing')
    add_config_options(parser)
    return parser


def benchmark(args: argparse.Namespace) -> tuple[BenchmarkReport, tuple[BudgetVerdict, ...]]:
    """Build what is asked for, time it, and hold it to the budget if there is one.

    Raises:
        ValueError: On a mistake in the options or the configs.
    """
    batch, dtype = _single(args.batch or [1], '--batch'), _single(args.dtype or ['float32'], '--dtype')
    shape, device, modes = tuple(args.shape or (800, 1344)), check_device(args.device), _modes(args)
    check_image_shape(shape, batch)
    check_dtype(dtype, device)
    check_modes(modes, device)
    check_together(modes, dtype=dtype, whole_model=args.whole_model, training=args.train, roof=args.roof)
    images = None if args.images is None else list_images(args.images)[: args.max_images or 16]
    budget = None if args.assert_budget is None else parse_latency_budget(args.assert_budget)
    sparsities = args.sparsity and [parse_sparsity(text) for text in args.sparsity]
    subjects = [
        load_subject(
            config,
            sparsities,
            stock=args.stock,
            optional_stock=args.optional_stock,
            whole_model=args.whole_model,
            training=args.train,
            cfg_options=args.cfg_options,
            checkpoint=args.checkpoint,
        )
        for config in args.configs
    ]
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task('warm-up', total=args.rounds)
        report = run_benchmark(
            [with_dense(subject) for subject in subjects] if budget and budget.relative else subjects,
            shape,
            batch=batch,
            dtype=dtype,
            device=args.device,
            modes=modes,
            training=args.train,
            roof=args.roof,
            rounds=args.rounds,
            min_round_time=args.min_round_time,
            threads=args.threads,
            images=images,
            progress=lambda done, rounds: bar.update(task, completed=done, description='rounds'),
        )
    if budget and any(row.sparsity is not None for row in report.rows if row.latency is None):
        raise ValueError(f'there is nothing to hold to the budget: {" ".join(report.failures())}')
    return report, judge(report, budget, subjects) if budget else ()


def _modes(args: argparse.Namespace) -> list[str]:
    """How backbones are run: torch's modes, and ONNX Runtime.

    Raises:
        ValueError: If a mode is named for a backend that has none.
    """
    backends = args.backend or ['torch']
    if 'torch' in backends:
        return [*(args.mode or ['eager']), *([ONNXRUNTIME] if ONNXRUNTIME in backends else [])]
    if args.mode:
        raise ValueError(f'--mode {" ".join(args.mode)} is how torch runs a backbone: add torch to --backend.')
    return [ONNXRUNTIME]


def show(report: BenchmarkReport, verdicts: Sequence[BudgetVerdict], console: Console) -> None:
    """Print the table, what there is to say about it, and what keeps the budget."""
    console.print(report.table())
    for note in report.notes():
        console.print(note)
    for warning in report.warnings():
        console.print(f'Warning: {warning}', style='yellow')
    for finding in report.findings():
        console.print(finding, style='bold')
    for failure in report.failures():
        console.print(failure, style='bold red')
    for verdict in verdicts:
        console.print(verdict.sentence(), style='green' if verdict.kept else 'bold red')


def write_json(report: BenchmarkReport, verdicts: Sequence[BudgetVerdict], path: Path) -> None:
    """Write all figures; the folder is made if need be."""
    values = report.to_dict()
    if verdicts:
        values['budget'] = [verdict.to_dict() for verdict in verdicts]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + '\n')


def benchmark_suite(args: argparse.Namespace, console: Console) -> int:
    """Time what is asked for of a suite, and keep it; 1 if something of it failed.

    Raises:
        ValueError: On a mistake in the options, or if the file of the suite is none.
        OSError: If that file cannot be written.
    """
    cases = select_cases(
        args.suite,
        args.device,
        batches=args.batch,
        dtypes=args.dtype,
        modes=args.mode,
        names=args.case,
        sparsities=args.sparsity,
    )
    if args.list:
        for case in cases:
            console.print(f'{case.name}: {shlex.join(case.arguments)}')
        return 0

    def told(number: int, case: SuiteCase, result: CaseResult | None) -> None:
        found = '' if result is None else f': {summary(result)}'
        console.print(f'[{number}/{len(cases)}] {case.name}{found}', style='dim' if result is None else None)

    path, results = run_suite(
        args.suite,
        cases,
        [sys.executable, str(Path(__file__).resolve())],
        folder=args.out or Path('benchmarks'),
        device=args.device,
        threads=args.threads,
        roof=args.roof,
        rounds=args.rounds,
        min_round_time=args.min_round_time,
        again=args.again,
        told=told,
    )
    console.print(f'Written to {path}')
    failures = [failure for result in results for failure in result.failures]
    for failure in failures:
        console.print(failure, style='bold red')
    return int(bool(failures))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 1 if something is over the budget or did not run, else 0.

    Raises:
        ValueError: On a mistake in the options or the configs.
        OSError: If the JSON file cannot be written.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    console = Console(soft_wrap=True, highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
    check_schedule(args.rounds, args.min_round_time)
    check_threads(args.threads)
    _check_options(args, parser)
    if args.suite is not None:
        return benchmark_suite(args, console)
    if args.json is not None:
        _check_writable(args.json)
    report, verdicts = benchmark(args)
    show(report, verdicts, console)
    if args.json is not None:
        write_json(report, verdicts, args.json)
        console.print(f'Written to {args.json}')
    return int(bool(report.failures()) or not all(verdict.kept for verdict in verdicts))


def _check_options(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Whether the options are for what is asked for, a suite or configs.

    Raises:
        ValueError: If not.
    """
    given = {name for name, value in vars(args).items() if value not in (parser.get_default(name), [])}
    names = {action.dest: (action.option_strings or ['CONFIG'])[0] for action in parser._actions}
    if args.suite is None:
        wrong = [names[name] for name in ONLY_IN_SUITES if name in given]
        if wrong:
            raise ValueError(f'{", ".join(wrong)} is for suites: give --suite with one of {", ".join(SUITES)}.')
        if not args.configs:
            raise ValueError(f'give a CONFIG to time, or --suite with one of {", ".join(SUITES)}.')
        return
    suite_entries(args.suite)
    wrong = [names[name] for name in NOT_IN_SUITES if name in given]
    if wrong:
        raise ValueError(
            f'--suite {args.suite} brings its own cases: leave out {", ".join(wrong)}. --case, --batch, --dtype, '
            f'--mode and --sparsity narrow it.'
        )


def _single(values: Sequence, option: str) -> object:
    """The one value of an option.

    Raises:
        ValueError: If there are more.
    """
    if len(set(values)) > 1:
        raise ValueError(f'{option} {" ".join(map(str, values))} is more than one: only --suite takes several.')
    return values[0]


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
