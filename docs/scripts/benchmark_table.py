"""The table of docs/benchmarking.md from the files of benchmarks/.

    python docs/scripts/benchmark_table.py benchmarks/*_cpu-2-threads.json

A line for each sparse row of a file: what the stock backbone takes (if it was timed), ours at sparsity 0, ours there.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

HEAD = """| backbone | size, batch | sparsity | stock | ours, dense | ours, sparse | MACs ratio | realised |
|---|---|---|--:|--:|--:|--:|--:|"""


def lines(path: Path) -> Iterator[str]:
    """The lines of one file."""
    report = json.loads(path.read_text())
    environment, rows = report['environment'], report['rows']
    stock = rows[0] if rows[0]['sparsity'] is None else None
    dense = next(row for row in rows if row['sparsity'] and not any(row['sparsity']))
    height, width = environment['shape']
    for row in rows:
        if not any(row['sparsity'] or ()):
            continue
        cells = [
            f'[{row["model"]}, {path.name.partition("_")[0]}](../benchmarks/{path.name})',
            f'{height}x{width}, {environment["batch"]}',
            _text(row['sparsity']) + (', by image' if row.get('kept') else ''),
            '–' if stock is None else _ms(stock),
            f'{_ms(dense)} ({dense["speed_up"]:.2f}x)',
            f'{_ms(row)} ({row["speed_up"]:.2f}x)',
            f'{dense["macs"] / row["macs"]:.2f}',
            f'{row["realised_share"]:.0%}',
        ]
        yield f'| {" | ".join(cells)} |'


def _text(sparsity: list[float]) -> str:
    """One number where all sites have the same."""
    return ', '.join(f'{value:g}' for value in (sparsity[:1] if len(set(sparsity)) == 1 else sparsity))


def _ms(row: dict) -> str:
    value = row['latency']['median'] * 1e3
    return f'{value:.0f} ms' if value >= 100 else f'{value:.1f} ms'


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('files', nargs='+', type=Path, metavar='JSON')
    print(HEAD)
    for path in parser.parse_args().files:
        print('\n'.join(lines(path)))


if __name__ == '__main__':
    main()
