"""Tables of what there is: suites, and where the runs of one stand."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from .board import Board
from .plan import Suite

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ['board_table', 'matching', 'suites_table']

STYLES = {'done': 'green', 'failed': 'bold red', 'left out': 'yellow', 'ready': 'bold'}


def suites_table(suites: Iterable[Suite]) -> 'Table':
    """Names, titles and numbers of runs."""
    from rich.table import Table

    table = Table()
    for column in ('suite', 'what', 'runs', 'seeds'):
        table.add_column(column, justify='right' if column == 'runs' else 'left')
    for suite in suites:
        seeds = ', '.join(map(str, suite.seeds))
        table.add_row(suite.name, suite.title, str(len(list(suite.tasks()))), seeds)
    return table


def board_table(board: Board, metric: str, scale: float, split: str) -> 'Table':
    """Every task with its state, what it needs, and what was found."""
    from rich.table import Table

    table = Table()
    for column in ('run', 'does', 'needs', 'state', 'found', 'remark'):
        table.add_column(column, justify='right' if column == 'found' else 'left', overflow='fold')
    for key, place in board.places.items():
        run = place.task.run
        found = ''
        if place.state == 'done':
            value = place.record.values.get('metrics', {}).get(split, {}).get(metric)
            found = '' if value is None else f'{value * scale:.1f}'
        needs = 'all rows' if run.kind == 'measure' else ', '.join(run.needs)
        state = f'[{STYLES[place.state]}]{place.state}[/]' if place.state in STYLES else place.state
        table.add_row(key, run.kind, needs, state, found, place.remark)
    return table


def matching(board: Board, patterns: Iterable[str], option: str) -> list[str]:
    """Keys of the tasks whose key, or whose run's name, fits one of some patterns.

    Raises:
        ValueError: If a pattern fits nothing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        own = [
            key
            for key, place in board.places.items()
            if fnmatchcase(key, pattern) or fnmatchcase(place.task.run.name, pattern)
        ]
        if not own:
            raise ValueError(
                f'{option} {pattern} fits no run of suite {board.suite.name}: --list shows them; * stands for any text.'
            )
        found |= dict.fromkeys(own)
    return list(found)
