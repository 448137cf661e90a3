"""Train, adapt, search and compare a small sparse segmentor on the embedded demo set.

    python tools/quickstart.py            # about 10 minutes on 2 cores
    python tools/quickstart.py --smoke    # the same steps in less than 2 minutes, with meaningless accuracies

Stopped at any point, the same command goes on where it was. tools/quickstart.sh calls this after setting up .venv.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sparsevit_mm.cli import run_tool

CONFIGS = Path(__file__).resolve().parent.parent / 'configs'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--smoke', action='store_true', help='only try that everything runs')
    parser.add_argument(
        '--work-dir',
        type=Path,
        metavar='DIR',
        help='where results go (default: work_dirs/quickstart, with --smoke work_dirs/quickstart_smoke)',
    )
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        ValueError: If the work dir holds another quickstart, or the search finds nothing.
        OSError: If the work dir cannot be written to.
    """
    args = parse_args(argv)
    warnings.simplefilter('ignore')  # of the mm packages and what they use; nothing that a newcomer can act on
    from sparsevit_mm.quickstart import FULL, SMOKE, Quickstart, rich_table

    console = Console()
    work_dir = args.work_dir or Path('work_dirs', 'quickstart_smoke' if args.smoke else 'quickstart')
    quickstart = Quickstart(work_dir, CONFIGS, SMOKE if args.smoke else FULL, console)
    console.print(rich_table(quickstart.run()))
    if args.smoke:
        console.print('A smoke run trains next to nothing: its accuracies mean nothing.')
    for path in quickstart.results():
        console.print(str(path), soft_wrap=True)


if __name__ == '__main__':
    sys.exit(run_tool(main))
