"""A report in Markdown."""

import os
from collections.abc import Sequence
from pathlib import Path

from .content import Picture, Report, Table

__all__ = ['markdown_text']


def markdown_text(report: Report, folder: Path) -> str:
    """The report as a file of a folder, which names its pictures from there.

    Args:
        report: What it says.
        folder: Where the file is meant to lie.
    """
    lines = [f'# {_plain(report.title)}', '', *map(_plain, report.summary), '']
    for warning in report.warnings:
        lines += [f'> **Warning:** {_plain(warning)}', '']
    lines += _pictures(report.pictures, folder)
    lines += ['## What was found', '', *_table(report.table), '']
    for note in report.notes:
        lines += [_plain(note), '']
    if report.samples:
        lines += ['## What is computed of sample images', '', *_pictures(report.samples, folder)]
    for section in report.sections:
        lines += [f'## {_plain(section.heading)}', '']
        lines += [*(f'- {_plain(name)}: {_plain(text)}' for name, text in section.facts), '']
    if report.commands:
        lines += ['## Commands', '']
        for purpose, command in report.commands:
            lines += [f'{_plain(purpose)}:', '', '```bash', command, '```', '']
    return '\n'.join(lines[:-1]) + '\n'


def _pictures(pictures: Sequence[Picture], folder: Path) -> list[str]:
    lines = []
    for picture in pictures:
        lines += [f'![{_plain(picture.heading)}](<{_link(picture.path, folder)}>)', '']
        lines += [_plain(picture.caption), ''] if picture.caption else []
    return lines


def _link(path: Path, folder: Path) -> str:
    path, folder = path.resolve(), folder.resolve()
    return (Path(os.path.relpath(path, folder)) if path.is_relative_to(folder) else path).as_posix()


def _table(table: Table) -> list[str]:
    lines = [_row(table.head), _row(['--:' if i in table.numeric else '---' for i in range(len(table.head))])]
    for i, row in enumerate(table.rows):
        first = f'**{row[0]}**' if i in table.marked else row[0]
        lines.append(_row([first, *row[1:]]))
    return lines


def _row(cells: Sequence[str]) -> str:
    return f'| {" | ".join(_plain(cell).replace("|", chr(92) + "|") for cell in cells)} |'


def _plain(text: str) -> str:
    """Text in one line that is not taken for HTML."""
    return ' '.join(str(text).split()).replace('&', '&amp;').replace('<', '&lt;')
