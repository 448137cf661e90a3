"""A report as one HTML file: it loads nothing, so it can be mailed, archived and printed."""

import base64
from collections.abc import Sequence
from html import escape

from .content import Picture, Report, Section, Table

__all__ = ['html_text']

_TYPES = {'.png': 'image/png', '.jpg': 'image/jpeg', '.jpeg': 'image/jpeg', '.webp': 'image/webp'}
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2530; --paper: #ffffff; --soft: #5a6675; --line: #d5dbe2;
  --panel: #f3f6f9; --accent: #0072b2; --mark: #e3f3ec; --alarm: #fdf0e2; --alarm-line: #d55e00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --paper: #14191f; --soft: #9aa7b5; --line: #343e49;
  --panel: #1d242c; --accent: #56b4e9; --mark: #173a2d; --alarm: #3a2710; --alarm-line: #e69f00; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .7rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
.summary { background: var(--panel); border-left: 4px solid var(--accent); padding: .9rem 1.1rem; border-radius: 4px; }
.summary p { margin: .35rem 0 0; } .summary p:first-child { margin: 0; font-size: 1.15rem; font-weight: 600; }
.warning { background: var(--alarm); border-left: 4px solid var(--alarm-line); padding: .7rem 1.1rem;
  border-radius: 4px; }
figure { margin: 1.5rem 0; }
@media screen and (min-width: 64rem) { .sample { width: min(96vw, 90rem); margin-left: 50%; translate: -50%; } }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; background: #fff; border: 1px solid var(--line);
  border-radius: 4px; }
figcaption, .note { color: var(--soft); font-size: .9rem; } figcaption { margin-top: .4rem; text-align: center; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: baseline; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; } td { white-space: nowrap; }
.number { text-align: right; } tr.marked td { background: var(--mark); font-weight: 600; }
dl { display: grid; grid-template-columns: minmax(9rem, 14rem) 1fr; gap: .3rem 1rem; margin: 0; font-size: .95rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--panel); padding: .7rem .9rem; border-radius: 4px; margin: .2rem 0 1rem; font-size: .85rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.purpose { margin: 0; }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
@media print { :root { color-scheme: light; --ink: #000; --paper: #fff; --soft: #444; --line: #bbb; --panel: #f4f4f4;
  --accent: #0072b2; --mark: #e3f3ec; --alarm: #fdf0e2; } main { max-width: none; padding: 0; }
  figure, tr, dl, pre { break-inside: avoid; } h2 { break-after: avoid; } .wide { overflow: visible; }
  table { font-size: .7rem; } th, td { padding: .25rem .4rem; } td:not(.number) { white-space: normal; } }
"""
# Nothing may be loaded or run, whatever a name in the report says.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def html_text(report: Report) -> str:
    """The report in HTML, with its style and pictures in it.

    Raises:
        OSError: If a picture cannot be read.
    """
    title = escape(report.title)
    body = [f'<h1>{title}</h1>', '<div class="summary">', *_paragraphs(report.summary), '</div>']
    body += [f'<p class="warning"><strong>Warning:</strong> {escape(text)}</p>' for text in report.warnings]
    body += _figures(report.pictures)
    body += ['<h2>What was found</h2>', *_table(report.table), *_paragraphs(report.notes, 'note')]
    if report.samples:
        body += ['<h2>What is computed of sample images</h2>', *_figures(report.samples, 'sample')]
    for section in report.sections:
        body += _section(section)
    if report.commands:
        body.append('<h2>Commands</h2>')
        for purpose, command in report.commands:
            body += [f'<p class="purpose">{escape(purpose)}:</p>', f'<pre><code>{escape(command)}</code></pre>']
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{title}</title>',
        f'<style>{_STYLE}</style>',
    ]
    top = ['<!DOCTYPE html>', '<html lang="en">', '<head>', *head, '</head>']
    return '\n'.join([*top, '<body>', '<main>', *body, '</main>', '</body>', '</html>', ''])


def _paragraphs(texts: Sequence[str], kind: str = '') -> list[str]:
    attribute = f' class="{kind}"' if kind else ''
    return [f'<p{attribute}>{escape(text)}</p>' for text in texts]


def _figures(pictures: Sequence[Picture], kind: str = 'plot') -> list[str]:
    lines = []
    for picture in pictures:
        data = base64.b64encode(picture.path.read_bytes()).decode('ascii')
        source = f'data:{_TYPES[picture.path.suffix.lower()]};base64,{data}'
        caption = f'{picture.heading}. {picture.caption}' if picture.caption else picture.heading
        image = f'<img src="{source}" alt="{escape(picture.heading)}">'
        lines.append(f'<figure class="{kind}">{image}<figcaption>{escape(caption)}</figcaption></figure>')
    return lines


def _table(table: Table) -> list[str]:
    number = ['' if i not in table.numeric else ' class="number"' for i in range(len(table.head))]
    head = ''.join(f'<th scope="col"{kind}>{escape(cell)}</th>' for kind, cell in zip(number, table.head))
    lines = ['<div class="wide">', '<table>', f'<thead><tr>{head}</tr></thead>', '<tbody>']
    for i, row in enumerate(table.rows):
        cells = ''.join(f'<td{kind}>{escape(cell)}</td>' for kind, cell in zip(number, row))
        lines.append(f'<tr{" class=" + chr(34) + "marked" + chr(34) if i in table.marked else ""}>{cells}</tr>')
    return [*lines, '</tbody>', '</table>', '</div>']


def _section(section: Section) -> list[str]:
    facts = [f'<dt>{escape(name)}</dt><dd>{escape(text)}</dd>' for name, text in section.facts]
    return [f'<h2>{escape(section.heading)}</h2>', '<dl>', *facts, '</dl>']
