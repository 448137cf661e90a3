"""Run suites of experiments: accuracy against latency with all controls, and the report of them.

    python tools/run_experiments.py                          # what suites there are
    python tools/run_experiments.py smoke                    # every kind of run, in a few minutes
    python tools/run_experiments.py camvid-swin --list       # its runs and where they stand
    python tools/run_experiments.py camvid-swin              # makes what is not done
    python tools/run_experiments.py camvid-swin --again measure    # latencies anew, on a quiet machine
    python tools/run_experiments.py camvid-swin --report docs/results.md

Stopped or killed at any moment, the same command goes on. A run that fails stops only those that need it; the exit
status is 1 then. What a changed config or option makes out of date is made anew; nothing is ever removed. See
docs/experiments.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sparsevit_mm.cli import run_tool
from sparsevit_mm.experiments import REPORTED, SUITES, Driver, Suite, Task, Workplace, check_data, suite_named
from sparsevit_mm.experiments.listing import board_table, matching, suites_table
from sparsevit_mm.experiments.report import read_chapter, rich_rows, write_document

PROJECT = Path(__file__).resolve().parent.parent
STYLES = {'done': 'green', 'failed': 'bold red', 'left out': 'yellow'}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('suites', nargs='*', metavar='SUITE', help=', '.join(SUITES))
    add('--list', action='store_true', help='show runs, what they need and where they stand; run nothing')
    add('--only', nargs='+', metavar='RUN', help='these, and what they need; * stands for any text')
    add('--again', nargs='+', metavar='RUN', default=[], help='make these anew though they are done')
    add('--seeds', nargs='+', type=int, metavar='SEED', help='instead of those of the suite')
    add('--jobs', type=int, default=1, metavar='N', help='runs at a time; those that take times run alone')
    add('--threads', type=int, metavar='N', help='of torch, for latencies (default: as at the last start)')
    add('--device', help='cpu or cuda (default: as at the last start, at first cuda if it is there)')
    add('--work-dir', type=Path, default=Path('work_dirs', 'experiments'), metavar='DIR', help='a folder a suite')
    add('--report', type=Path, metavar='FILE', help='write a report of results that there are; run nothing')
    add('--results', type=Path, nargs='+', metavar='FILE', help='for --report: files of results, one a suite')
    add('--pictures', type=Path, metavar='DIR', help='for --report: where plots go (default: images beside FILE)')
    add('--debug', action='store_true', help='show the traceback of an error')
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f'--jobs must be 1 or more, got {args.jobs}')
    if (args.results or args.pictures) and not args.report:
        parser.error('--results and --pictures belong to --report')
    return args


def run_suite(suite: Suite, args: argparse.Namespace, console: Console) -> bool:
    """List or run one suite; returns whether all that was wanted is done.

    Raises:
        ValueError: On a mistake in the options, or if data or the device are not there.
        OSError: If the work dir cannot be used.
    """
    workplace = Workplace.open(suite, PROJECT, args.work_dir / suite.name, args.device, args.threads)

    def tell(task: Task, word: str, sentence: str) -> None:
        console.print(f'[{STYLES.get(word, "bold")}]{word:8}[/] {task.key}: ', end='')
        console.print(sentence, markup=False)

    driver = Driver(suite, workplace, args.seeds, told=tell)
    driver.make_again(matching(driver.board, args.again, '--again'))
    for remark in driver.remarks:
        console.print(f'[yellow]note[/]     {remark}')
    wanted = matching(driver.board, args.only, '--only') if args.only else None
    if not args.list:
        check_data(suite, PROJECT)
        done = driver.run(wanted, args.jobs)
        show_rows(suite, workplace, console)
        console.print(f'results in {workplace.results}')
        return done
    console.print(board_table(driver.board, suite.metric, suite.scale, suite.split))
    return True


def show_rows(suite: Suite, workplace: Workplace, console: Console) -> None:
    """Print the table of a suite, if there is something in it."""
    if not workplace.results.exists():
        return
    chapter = read_chapter(workplace.results, PROJECT / 'configs')
    if chapter.rows:
        console.print(rich_rows(chapter.rows, suite.metric_title, suite.title))


def report(args: argparse.Namespace, console: Console) -> None:
    """Write the report.

    Raises:
        ValueError: If there are no results, or a file has none.
        OSError: If a file cannot be read or written.
    """
    named = [suite_named(name) for name in args.suites] or list(REPORTED)
    files = args.results or [args.work_dir / suite.name / 'results.jsonl' for suite in named]
    there = [path for path in files if path.exists()]
    if not there:
        raise ValueError(f'there are no results in {", ".join(map(str, files))}: run the suite first.')
    chapters = [read_chapter(path, PROJECT / 'configs') for path in there]
    pictures = args.pictures or args.report.parent / 'images'
    for path in write_document(chapters, args.report, pictures):
        console.print(f'Written to {path}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.

    Raises:
        ValueError: On a mistake in the options, or if something that is needed is not there.
        OSError: If a file cannot be used.
    """
    args = parse_args(argv)
    console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 200)
    if args.report:
        report(args, console)
        return 0
    if not args.suites:
        console.print(suites_table(SUITES.values()))
        return 0
    done = [run_suite(suite_named(name), args, console) for name in args.suites]
    return 0 if all(done) else 1


if __name__ == '__main__':
    sys.exit(run_tool(main))
