"""From a task to a job: what other runs have found is filled in, and the config is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .board import Board, Place
from .configs import ConfigBook
from .jobs.job import CONFIG_FILE, Job
from .values import fill
from .workplace import Workplace

__all__ = ['prepare']

ROWS = 'rows'  # folder of the configs of what is measured


def prepare(place: Place, board: Board, book: ConfigBook, workplace: Workplace, folder: Path) -> Job:
    """The job of a task, with its config written into the folder of the run.

    Args:
        place: The task, with all that it needs.
        board: Where the others stand.
        book: Configs of the project.
        workplace: Of the suite.
        folder: Of the run.

    Raises:
        Unreachable: If a value is out of reach.
        ValueError: If a value or a file was not found, or an override does not fit the config.
    """
    task, run, root = place.task, place.task.run, workplace.root
    options = fill(dict(run.options), _values_of(place, board), root, task.seed)
    if run.kind == 'measure':
        options['rows'] = [_row(key, board, book, root, folder / ROWS) for key in place.needs]
    _write_config(place, board, book, root, folder / CONFIG_FILE)
    return Job(
        kind=run.kind,
        project=workplace.project,
        root=root,
        folder=folder,
        options=options,
        seed=task.seed,
        device=workplace.device,
        threads=workplace.threads,
    )


def _values_of(place: Place, board: Board) -> Callable[[str], dict[str, Any]]:
    needed = {need.run.name: need.key for need in board.suite.needs_of(place.task)}
    return lambda name: dict(board.done(needed[name]).values)


def _write_config(place: Place, board: Board, book: ConfigBook, root: Path, path: Path, **more: Any) -> None:
    task, run, values_of = place.task, place.task.run, _values_of(place, board)
    overrides = fill({**run.overrides, **more}, values_of, root, task.seed)
    if run.adopt is not None:
        overrides |= fill(run.adopt, values_of, root)['overrides']
    header = f'{board.suite.name}, {task.key}: written by tools/run_experiments.py.'
    book.write(run.config, book.changed(run.config, overrides, task.seed), path, header)


def _row(key: str, board: Board, book: ConfigBook, root: Path, folder: Path) -> dict[str, Any]:
    """A model to be timed: from its record alone, since times depend on no weights and its files may be elsewhere."""
    config = folder / f'{key.replace("/", "-")}.py'
    _write_config(board.places[key], board, book, root, config, load_from=None)
    return {'key': key, 'config': str(config), 'shape': board.done(key).values['shape']}
