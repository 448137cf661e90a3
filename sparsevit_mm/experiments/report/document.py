"""The document of all suites, made from their files of results."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..configs import ConfigBook
from ..plan import Suite
from ..recipes import recipes_of
from ..results_file import Record, latest, read_records, standing
from ..suites import suite_named
from .claims import judge
from .plot import plot_rows
from .rows import ResultRow, rows_of
from .table import claims_markdown, rows_markdown

__all__ = ['Chapter', 'chapter_of', 'read_chapter', 'write_document']

OPENING = """# Results

Accuracy against latency, with the controls that go with it. This page is made by

```bash
python tools/run_experiments.py --report {out} --results {paths}
```

from the files of results, and is not written by hand: {files}.
How they were made, how to go on with them and how to make those of COCO, Cityscapes, ADE20K and nuScenes is in
[experiments.md](experiments.md).

Reading the tables: a row is the mean over its seeds with their standard deviation, then one value a seed. *backbone
latency* and *whole model* are measured fractions of the dense model's, float32 and one image at a time, all models of
a table in turns in one process; the range is given where seeds have found different sparsities. The percentage in a
name is the budget that a row was made for, a fraction of the dense latency of the backbone. Models are trained for a
fixed number of epochs or iterations and the last weights are tested once; nothing was chosen by the tested images.
The *latencies* of a claim are those of the backbones that it compares, in its order.
"""


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


def write_document(chapters: Sequence[Chapter], out: Path, pictures: Path) -> list[Path]:
    """Write the document and a picture for each chapter that has latencies.

    Args:
        chapters: In their order.
        out: The document.
        pictures: Folder of the pictures.

    Returns:
        All files.

    Raises:
        OSError: If a file cannot be written.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    files, parts = [], [_opening(chapters, out)]
    for chapter in chapters:
        picture = None
        if any(row.backbone for row in chapter.rows):
            picture = pictures / f'results_{chapter.suite.name}.png'
            suite = chapter.suite
            plot_rows(chapter.rows, f'{suite.metric_title}, {suite.split}', suite.title, picture)
            files.append(picture)
        parts.append(_chapter(chapter, picture, out.parent))
    out.write_text('\n'.join(parts))
    return [out, *files]


def _opening(chapters: Sequence[Chapter], out: Path) -> str:
    files = ', '.join(_link(chapter.path, out.parent, chapter.path.name) for chapter in chapters)
    paths = ' '.join(_shown(chapter.path) for chapter in chapters)
    return OPENING.format(paths=paths, out=_shown(out), files=files)


def _chapter(chapter: Chapter, picture: Path | None, folder: Path) -> str:
    suite = chapter.suite
    parts = [f'## {suite.title}', suite.about]
    if not chapter.rows:
        return '\n\n'.join([*parts, 'No results yet.', ''])
    parts.append(_conditions(chapter))
    parts.append(rows_markdown(chapter.rows, suite.metric_title))
    if picture is not None:
        parts.append(f'![{suite.metric_title} against latency]({_relative(picture, folder)})')
    if suite.claims:
        parts += ['What holds:', claims_markdown(judge(suite.claims, chapter.rows))]
    if remarks := _remarks(chapter):
        parts.append('\n'.join(f'- {remark}' for remark in remarks))
    return '\n\n'.join([*parts, ''])


def _conditions(chapter: Chapter) -> str:
    """Where it was made, in a sentence or two."""
    trained = [record for record in chapter.records.values() if 'metrics' in record.values]
    seeds = sorted({record.seed for record in trained if record.seed is not None})
    commits = list(dict.fromkeys(record.commit for record in trained))
    hours = sum(record.seconds for record in chapter.records.values()) / 3600
    text = (
        f'Trained on {_machines(trained)}; commit {", ".join(commits)}; {_seeds(seeds or [0])}; {hours:.1f} hours in '
        f'all, counted from the last start of each run.'
    )
    if fitted := [record for record in chapter.records.values() if record.kind == 'calibrate']:
        places = (f'{record.values["environment"]["device_name"]}, commit {record.commit}' for record in fitted)
        text += f' Budgets were fitted on {" and on ".join(dict.fromkeys(places))}.'
    for record in chapter.records.values():
        if record.kind == 'measure':
            where = record.values['environment']
            threads = f', {where["threads"]} threads' if where['device'] == 'cpu' else ''
            text += f' Latencies: {where["device_name"]}{threads}, {record.values["rounds"]} rounds.'
            text += f' The whole model is {record.values["scope"]}.'
    return text


def _machines(trained: Sequence[Record]) -> str:
    """What the models were trained on, and where that differs which seeds were."""
    found: dict[str, set[int]] = {}
    for record in [record for record in trained if record.kind == 'train'] or trained:
        dtype = f', in {record.values["dtype"]}' if 'dtype' in record.values else ''
        name = f'{record.environment["device_name"]}, torch {record.environment["torch"]}{dtype}'
        found.setdefault(name, set()).add(record.seed or 0)
    if len(found) == 1:
        return next(iter(found))
    return ' and on '.join(f'{name} ({_seeds(sorted(seeds))})' for name, seeds in found.items())


def _seeds(seeds: Sequence[int]) -> str:
    return f'seed{"s" * (len(seeds) > 1)} {", ".join(map(str, seeds))}'


def _remarks(chapter: Chapter) -> list[str]:
    remarks = [f'Left out: {text}' for text in chapter.suite.left_out]
    remarks += [f'{key}: {reason}' for key, reason in chapter.missing.items()]
    if chapter.old:
        remarks.append(
            f'Not in the table, since the suite asks for something else by now: {", ".join(chapter.old)}. '
            f'They are made anew by tools/run_experiments.py {chapter.suite.name}.'
        )
    return remarks


def _link(path: Path, folder: Path, text: str) -> str:
    return f'[{text}]({_relative(path, folder)})'


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _shown(path: Path) -> str:
    here = Path.cwd()
    return path.resolve().relative_to(here).as_posix() if path.resolve().is_relative_to(here) else path.name
