"""Tables and a picture of the files of suites, see docs/benchmarking.md.

    python docs/scripts/benchmark_table.py benchmarks/*_MACHINE_*.json  # a table of benchmarks/README.md
    python docs/scripts/benchmark_table.py benchmarks/swin-coco_MACHINE_*.json --readme README.md README_zh-CN.md
    python docs/scripts/benchmark_table.py benchmarks/swin-coco_MACHINE_*.json --case b1 --plot docs/images/speed.png

A line of the table is a row of ours. `--readme` writes the few that a README shows between the lines
`<!-- benchmarks -->` and `<!-- /benchmarks -->` and leaves all else as it is.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sparsevit_mm.cli import run_tool
from sparsevit_mm.cost.subjects import parse_sparsity
from sparsevit_mm.cost.suite_plot import plot_speed_up
from sparsevit_mm.cost.suite_report import COLUMNS, Line, markdown_lines, milliseconds, percent, read_lines, times
from sparsevit_mm.cost.suites import CONFIG_2

START, END = '<!-- benchmarks -->', '<!-- /benchmarks -->'
# What a README shows, in its order.
README_CASES = [
    f'swin-t_{size}_b1_{dtype}_eager' for size in ('800x1344', '672x672') for dtype in ('float32', 'bfloat16')
]
DENSE, PRUNED, FOUND = 0.0, 0.6, parse_sparsity(CONFIG_2)
# By the ending of the file's name: README_zh-CN.md.
TRANSLATIONS = {
    'zh-CN': {
        'image size': '图像尺寸',
        'arithmetic': '数值精度',
        'sparsity': '稀疏度',
        'stock Swin-T': '原始 Swin-T',
        'ours': '本库',
        'speed-up': '加速比',
        'fewer MACs': 'MACs 减少',
        'peak memory, of stock': '峰值内存（占原始）',
        '0 (dense)': '0（稠密）',
        'SparseViT config 2': 'SparseViT 配置 2',
        'thread': '线程',
        'threads': '线程',
        '; medians of rounds with stock and ours interleaved.': '；原始与本库交替测量，取各轮的中位数。',
        ', ': '，',
    }
}


def lines(path: Path) -> list[str]:
    """The lines of the full table that are from one file, without its head."""
    return list(markdown_lines(read_lines(path)[1], head=False))


def short_table(found: Sequence[Line], environment: Mapping[str, Any], word: Callable[[str], str]) -> list[str]:
    """What a README shows, with the conditions below.

    Raises:
        ValueError: If one of its rows is not there.
    """

    def is_shown(line: Line) -> bool:
        return line.sparsity == FOUND or set(line.sparsity) in ({DENSE}, {PRUNED})

    by_case = {case: [line for line in found if line.case == case and is_shown(line)] for case in README_CASES}
    missing = [case for case, of_it in by_case.items() if len(of_it) != 3]
    if missing:
        raise ValueError(
            f'the table of a README needs sparsity 0, {PRUNED:g} and {CONFIG_2} of {", ".join(missing)}: run '
            f'tools/benchmark.py --suite swin-coco.'
        )
    columns = {
        'image size': COLUMNS['size'],
        'arithmetic': COLUMNS['dtype'],
        'sparsity': lambda line: word(_label(line.sparsity)),
        'stock Swin-T': lambda line: milliseconds(line.stock_seconds),
        'ours': lambda line: milliseconds(line.seconds),
        'speed-up': lambda line: times(line.speed_up),
        'fewer MACs': lambda line: times(line.macs_ratio),
        'peak memory, of stock': lambda line: percent(line.memory_share),
    }
    left = ('image size', 'arithmetic', 'sparsity')
    table = markdown_lines(
        [line for of_it in by_case.values() for line in of_it],
        {word(name): cell for name, cell in columns.items()},
        [word(name) for name in left],
    )
    where = [environment['device_name'], f'torch {environment["torch"]}']
    if environment['device'] == 'cpu':
        threads = environment['threads']
        where.insert(1, f'{threads} {word("thread" if threads == 1 else "threads")}')
    return [*table, '', word(', ').join(where) + word('; medians of rounds with stock and ours interleaved.')]


def with_table(path: Path, table: Sequence[str]) -> str:
    """The text of a file with a table between its markers.

    Raises:
        ValueError: If they are not there, each once and in order.
    """
    text = path.read_text(encoding='utf-8')
    pattern = re.compile(f'{re.escape(START)}.*?{re.escape(END)}', re.DOTALL)
    if text.count(START) != 1 or text.count(END) != 1 or not pattern.search(text):
        raise ValueError(f'{path} needs the lines {START} and {END}, once each, for the table to come between them.')
    between = '\n\n'.join([START, '\n'.join(table), END])
    return pattern.sub(lambda found: between, text)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        ValueError: If a file is none of a suite, or what is asked for is not in them.
        OSError: If a file cannot be read or written.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('files', nargs='+', type=Path, metavar='JSON', help='files of suites')
    parser.add_argument('--case', nargs='+', default=[''], metavar='PART', help='only cases with this in their name')
    parser.add_argument('--readme', nargs='+', type=Path, default=[], metavar='FILE', help='put the short table there')
    parser.add_argument('--plot', type=Path, metavar='OUT', help='draw speed-up against sparsity')
    args = parser.parse_args(argv)
    environments, found, failed = zip(*map(read_lines, args.files))
    shown = [line for of_file in found for line in of_file if _is_asked(line.case, args.case)]
    if args.readme and any(environment != environments[0] for environment in environments):
        raise ValueError('the table of a README is of one machine: give files of one environment.')
    texts = {}
    for path in args.readme:
        words = TRANSLATIONS.get(path.stem.partition('_')[2], {})
        table = short_table(shown, environments[0], lambda text, words=words: words.get(text, text))
        texts[path] = with_table(path, table)
    for path, text in texts.items():
        path.write_text(text, encoding='utf-8')
    if args.plot is not None:
        plot_speed_up(shown, args.plot)
    if not args.readme and args.plot is None:
        print('\n'.join(markdown_lines(shown)))
        failures = [f'- {case.name}: {case.error}' for of_file in failed for case in of_file]
        for text in ['', *failures] if failures else []:
            print(text)


def _is_asked(case: str, parts: Sequence[str]) -> bool:
    return any(fnmatchcase(case, f'*{part}*') for part in parts)


def _label(sparsity: tuple[float, ...]) -> str:
    return 'SparseViT config 2' if sparsity == FOUND else '0 (dense)' if not any(sparsity) else f'{sparsity[0]:g}'


if __name__ == '__main__':
    sys.exit(run_tool(main))
