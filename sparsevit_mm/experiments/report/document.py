"""The document of all suites, made from their files of results."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..results_file import Record
from .chapter import Chapter
from .claims import judge
from .plot import plot_rows
from .rows import ResultRow
from .side_by_side import losses, parts
from .table import claims_markdown, losses_markdown, parts_markdown, rows_markdown

__all__ = ['write_document']

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

SIDE_BY_SIDE = """## Families side by side

Each row is compared with the dense model of its own suite that was trained as long, seed by seed: mean and standard
deviation of the differences, from the slowest row to the fastest. Sizes, first weights and lengths of training differ
between suites, so this tells what a way of pruning costs on its own backbone, and not which backbone is best."""

PARTS = """### What parts are worth

The difference between rows with a part and without it, seed by seed, made for the same budget where there is one and,
but for *fine-tuning*, after as much training. The *latencies* are those of the backbones with and without it."""


def write_document(chapters: Sequence[Chapter], out: Path, pictures: Path) -> list[Path]:
    """Write the document, with a plot for each chapter that has latencies and one for what is side by side.

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
    files: list[Path | None] = []
    text = [_opening(chapters, out)]
    beside = losses(chapters)
    if len({chapter.suite.name for chapter, _ in beside}) > 1:
        picture = _picture(
            [row for _, row in beside],
            _against_dense(beside),
            'Families side by side',
            pictures / 'results_families.png',
            reference=(0.0, beside[0][0].suite.reference),
        )
        files.append(picture)
        text.append(_side_by_side(chapters, beside, picture, out.parent))
    for chapter in chapters:
        suite = chapter.suite
        metric = f'{suite.metric_title}, {suite.split}'
        picture = _picture(chapter.rows, metric, suite.title, pictures / f'results_{suite.name}.png')
        files.append(picture)
        text.append(_chapter(chapter, picture, out.parent))
    out.write_text('\n'.join(text))
    return [out, *filter(None, files)]


def _picture(
    rows: Sequence[ResultRow], metric: str, title: str, file: Path, reference: tuple[float, str] | None = None
) -> Path | None:
    """The file with the plot; None where no row has a latency."""
    if not any(row.backbone for row in rows):
        return None
    plot_rows(rows, metric, title, file, reference=reference)
    return file


def _opening(chapters: Sequence[Chapter], out: Path) -> str:
    files = ', '.join(_link(chapter.path, out.parent, chapter.path.name) for chapter in chapters)
    paths = ' '.join(_shown(chapter.path) for chapter in chapters)
    return OPENING.format(paths=paths, out=_shown(out), files=files)


def _against_dense(beside: Sequence[tuple[Chapter, ResultRow]]) -> str:
    return f'{beside[0][0].suite.metric_title} against dense'


def _side_by_side(
    chapters: Sequence[Chapter], beside: Sequence[tuple[Chapter, ResultRow]], picture: Path | None, folder: Path
) -> str:
    named = [(_anchor(chapter), row) for chapter, row in beside]
    sections = [SIDE_BY_SIDE, losses_markdown(named, _against_dense(beside))]
    if picture is not None:
        sections.append(f'![Families side by side]({_relative(picture, folder)})')
    if found := parts(chapters):
        lines = [(part, _anchor(chapter), verdict) for part, own in found.items() for chapter, verdict in own]
        sections += [PARTS, parts_markdown(lines)]
    return '\n\n'.join([*sections, ''])


def _anchor(chapter: Chapter) -> str:
    """A link to the heading of a chapter, as renderers of Markdown name it."""
    title = chapter.suite.title
    kept = ''.join(letter for letter in title.lower() if letter.isalnum() or letter in ' -')
    return f'[{title}](#{kept.replace(" ", "-")})'


def _chapter(chapter: Chapter, picture: Path | None, folder: Path) -> str:
    suite = chapter.suite
    sections = [f'## {suite.title}', suite.about]
    if not chapter.rows:
        return '\n\n'.join([*sections, 'No results yet.', ''])
    sections.append(_conditions(chapter))
    sections.append(rows_markdown(chapter.rows, suite.metric_title))
    if picture is not None:
        sections.append(f'![{suite.metric_title} against latency]({_relative(picture, folder)})')
    if suite.claims:
        sections += ['What holds:', claims_markdown(judge(suite.claims, chapter.rows))]
    if remarks := _remarks(chapter):
        sections.append('\n'.join(f'- {remark}' for remark in remarks))
    return '\n\n'.join([*sections, ''])


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
