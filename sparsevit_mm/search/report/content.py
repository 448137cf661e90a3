"""What a report says, apart from how it is written: Markdown and HTML are made of the same content."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..budget import format_cost
from ..results import Evaluation, Measured, Outcome
from .facts import cost_facts, environment_facts, search_facts, space_facts
from .final_latency import latency_sentences
from .words import CAUTION, front_note, summary

__all__ = ['Picture', 'Report', 'Section', 'Table', 'format_sparsity', 'report_content', 'table_rows']

FOUND = 'found'
WARNING = 'Warning'  # the fact that belongs to the top


@dataclass(frozen=True)
class Picture:
    """A picture of a report.

    Args:
        path: The file.
        heading: What it is, for those who cannot see it too.
        caption: How to read it.
    """

    path: Path
    heading: str
    caption: str


@dataclass(frozen=True)
class Table:
    """The settings worth comparing.

    Args:
        head: Names of the columns.
        rows: The cells, a line each.
        numeric: Indices of the columns that hold numbers.
        marked: Indices of the rows that stand out.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int]
    marked: frozenset[int]


@dataclass(frozen=True)
class Section:
    """Facts that belong together.

    Args:
        heading: What they are about.
        facts: Name and text of each.
    """

    heading: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Report:
    """All that a report says.

    Args:
        title: Heading.
        summary: Sentences that open it, the most important one first.
        warnings: What makes the numbers doubtful.
        pictures: The figures of the search.
        table: The settings worth comparing.
        notes: How to read the table.
        samples: Images with what is computed of them.
        sections: How the numbers came about.
        commands: What each one is for, and the command line.
    """

    title: str
    summary: tuple[str, ...]
    warnings: tuple[str, ...]
    pictures: tuple[Picture, ...]
    table: Table
    notes: tuple[str, ...]
    samples: tuple[Picture, ...]
    sections: tuple[Section, ...]
    commands: tuple[tuple[str, str], ...]


def report_content(
    outcome: Outcome,
    facts: Mapping[str, str],
    title: str = '',
    *,
    pictures: Sequence[Picture] = (),
    measured: Sequence[Measured] = (),
    samples: Sequence[Path] = (),
    commands: Sequence[tuple[str, str]] = (),
    cost: Mapping[str, str] | None = None,
) -> Report:
    """Collects what a report says.

    Args:
        outcome: The study as it stands.
        facts: What was searched, on what, and how. One that is called ``Warning`` goes to the top.
        title: What was searched, in short.
        pictures: The figures of the search.
        measured: Latencies that were measured in the end.
        samples: Files of sample images.
        commands: What each one is for, and the command line.
        cost: How the cost was counted.
    """
    facts = dict(facts)
    warnings = tuple(text for text in [facts.pop(WARNING, '')] if text)
    sections = [
        Section('How cost was counted', tuple({**(cost or {}), **cost_facts(outcome)}.items())),
        Section('What there was to choose from', tuple(space_facts(outcome).items())),
        Section('How it was searched', tuple({**search_facts(outcome), **facts}.items())),
        Section('Written with', tuple(environment_facts().items())),
    ]
    return Report(
        title=f'Sparsity search{": " + title if title else ""}',
        summary=(*summary(outcome), *latency_sentences(outcome, measured)),
        warnings=warnings,
        pictures=tuple(pictures),
        table=_table(outcome, measured),
        notes=(front_note(outcome), CAUTION),
        samples=tuple(Picture(Path(path), _sample_name(Path(path)), '') for path in samples),
        sections=tuple(sections),
        commands=tuple((str(purpose), str(command)) for purpose, command in commands),
    )


def format_sparsity(sparsity: Iterable[float]) -> str:
    """A vector as a config has it."""
    return f'({", ".join(f"{value:g}" for value in sparsity)})'


def table_rows(outcome: Outcome) -> list[tuple[str, Evaluation]]:
    """What is worth comparing, with a name each: dense, uniform, the front, the best.

    Without a budget no setting of the front is better than the others, so none is called found.
    """
    front, best = outcome.front, outcome.best if outcome.has_budget else None
    rows = [('dense', outcome.dense)] if outcome.dense else []
    uniform = [e for e in outcome.uniform if any(e.sparsity)]
    if outcome.has_budget:
        rows += [(_uniform_name(e), e) for e in uniform]
        rows += [('front', e) for e in front if not e.uniform and e is not best]
        return rows + ([(FOUND, best)] if best else [])
    numbers = {e.number for e in front}
    rows += [(_uniform_name(e), e) for e in uniform if e.number not in numbers]
    return rows + [(f'front, {_uniform_name(e)}' if e.uniform else 'front', e) for e in front if any(e.sparsity)]


def _uniform_name(e: Evaluation) -> str:
    return f'uniform {e.sparsity[0]:g}'


def _table(outcome: Outcome, measured: Sequence[Measured]) -> Table:
    times = {m.sparsity: m for m in measured}
    dense = times.get((0.0,) * len(outcome.sites))
    head = ['setting', f'sparsity of {", ".join(outcome.sites)}', outcome.metric_name, 'cost', 'of dense']
    if times:
        head += ['measured (quartiles)', 'measured of dense']
    named = table_rows(outcome)
    rows = []
    for name, e in named:
        cost = format_cost(e.cost, outcome.unit)
        row = [name, format_sparsity(e.sparsity), f'{e.accuracy:.4g}', cost, f'{outcome.share(e.cost):.3f}']
        if times:
            row += _measured_cells(times.get(e.sparsity), dense)
        rows.append(tuple(row))
    marked = frozenset(i for i, (name, _) in enumerate(named) if name == FOUND)
    return Table(tuple(head), tuple(rows), frozenset(range(2, len(head))), marked)


def _measured_cells(time: Measured | None, dense: Measured | None) -> list[str]:
    if time is None:
        return ['', '']
    spread = f'{time.q1 * 1e3:.4g} to {time.q3 * 1e3:.4g}'
    return [f'{format_cost(time.median, "s")} ({spread})', f'{time.median / dense.median:.3f}' if dense else '']


def _sample_name(path: Path) -> str:
    """The name of the image: without the number that sorts it."""
    return f'Image {re.sub(r"^[0-9]+_", "", path.stem)}'
