"""A suite and its results, read from a file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..configs import ConfigBook
from ..plan import Suite
from ..recipes import recipes_of
from ..results_file import Record, latest, read_records, standing
from ..suites import suite_named
from .rows import ResultRow, rows_of

__all__ = ['Chapter', 'chapter_of', 'read_chapter']


@dataclass(frozen=True)
class Chapter:
    """A suite and its results.

    Args:
        suite: The suite.
        path: The file of results.
        rows: What there is.
        records: The records behind them, by key.
        old: Keys of results that are not used, since the suite asks for something else by now.
        missing: Keys of rows that there is no result of, and why.
    """

    suite: Suite
    path: Path
    rows: Sequence[ResultRow]
    records: Mapping[str, Record]
    old: Sequence[str]
    missing: Mapping[str, str]


def read_chapter(path: Path, configs: Path) -> Chapter:
    """The results of a file, of the suite that its records name.

    Args:
        path: The file.
        configs: Folder with the configs of the project.

    Raises:
        ValueError: If it has no records, or there is no such suite.
        OSError: If it cannot be opened.
    """
    records, _ = read_records(path)
    if not records:
        raise ValueError(f'{path} has no record of an experiment in it yet.')
    suite = suite_named(records[-1].suite)
    seeds = sorted({*suite.seeds, *(record.seed for record in records if record.seed is not None)})
    conditions = records[-1].config.get('conditions', {})
    recipes = recipes_of(suite, list(suite.tasks(seeds)), ConfigBook(configs).content, conditions)
    return chapter_of(suite, path, records, recipes)


def chapter_of(suite: Suite, path: Path, records: Iterable[Record], recipes: Mapping[str, str]) -> Chapter:
    """The results of a suite that may stand beside each other.

    Args:
        suite: The suite.
        path: Where the records are from.
        records: All of them; those of runs that the suite no longer has are passed over.
        recipes: What the suite asks for now, by key.
    """
    names = {run.name for run in suite.runs}
    own = [record for record in records if record.suite == suite.name and record.run in names]
    stand = standing(own)
    fits = {key: r for key, r in stand.items() if recipes.get(key, r.recipe) == r.recipe}
    ends = latest(own, ('failed', 'left out'))
    missing = {key: f'{r.state}, {r.error}' for key, r in ends.items() if r.run in suite.rows and key not in fits}
    return Chapter(suite, path, rows_of(suite, fits), fits, sorted(set(stand) - set(fits)), missing)
