"""The files that a search leaves: tables, pictures, and a report that says how the numbers came about."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...files import written_whole
from ..results import Measured, Outcome
from .content import Picture, report_content
from .csv import csv_text
from .html import html_text
from .markdown import markdown_text
from .plot import plot_outcome
from .plot_sites import plot_sites

__all__ = ['REPORT_FILES', 'write_report']

# What write_report leaves, the first for people.
REPORT_FILES = ('report.html', 'report.md', 'pareto.png', 'sites.png', 'pareto.csv', 'candidates.csv')


def write_report(
    outcome: Outcome,
    folder: str | os.PathLike,
    facts: Mapping[str, str],
    title: str = '',
    measured: Sequence[Measured] = (),
    samples: Sequence[Path] = (),
    commands: Sequence[tuple[str, str]] = (),
    *,
    cost: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes ``report.html``, ``report.md``, ``pareto.png``, ``sites.png``, ``pareto.csv`` and ``candidates.csv``.

    Each file is replaced as a whole, so that an interrupted report leaves the one before. There is no ``sites.png``
    before the first evaluation within the budget.

    Args:
        outcome: The study as it stands.
        folder: Where the files go.
        facts: What was searched, on what, and how: lines of the report. One that is called ``Warning`` goes to the
            top.
        title: What was searched, in short.
        measured: Latencies that were measured in the end, dense among them.
        samples: Pictures of what is computed of sample images; those that are not there are left out.
        commands: What each one is for, and the command line.
        cost: How the cost was counted, as ``describe()`` of a cost model says it.

    Returns:
        The files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    everything = [*([outcome.dense] if outcome.dense and outcome.dense.number < 0 else []), *outcome.evaluations]
    _write(folder / 'pareto.csv', csv_text(outcome, outcome.front))
    _write(folder / 'candidates.csv', csv_text(outcome, everything))
    plot_outcome(outcome, folder / 'pareto.png', title)
    pictures = [Picture(folder / 'pareto.png', f'{outcome.metric_name} against cost', _PARETO)]
    if outcome.front:
        plot_sites(outcome, folder / 'sites.png')
        pictures.append(Picture(folder / 'sites.png', 'Sparsity of each site', _SITES))
    report = report_content(
        outcome,
        facts,
        title,
        pictures=pictures,
        measured=measured,
        samples=[Path(path) for path in samples if Path(path).is_file()],
        commands=commands,
        cost=cost,
    )
    _write(folder / 'report.md', markdown_text(report, folder))
    _write(folder / 'report.html', html_text(report))
    return [folder / name for name in REPORT_FILES if (folder / name).exists()]


_PARETO = 'Every setting that was evaluated on all images. Up and to the left is better.'
_SITES = 'The fraction of its units that a site does not compute, from the first site to the last.'


def _write(path: Path, text: str) -> None:
    with written_whole(path) as unfinished:
        unfinished.write_text(text, encoding='utf-8')
