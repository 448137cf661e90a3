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
        ValueError: If a value was not found, or an override does not fit the config.
    """
    task, run, root = place.task, place.task.run, workplace.root
    values_of = _values_of(place, board)
    overrides = fill(dict(run.overrides), values_of, root, task.seed)
    if run.adopt is not None:
        overrides |= fill(run.adopt, values_of, root)['overrides']
    options = fill(dict(run.options), values_of, root, task.seed)
    if run.kind == 'measure':
        options['rows'] = [_row(key, board, root) for key in place.needs]
    cfg = book.changed(run.config, overrides, task.seed)
    header = f'{board.suite.name}, {task.key}: written by tools/run_experiments.py.'
    book.write(run.config, cfg, folder / CONFIG_FILE, header)
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


def _row(key: str, board: Board, root: Path) -> dict[str, Any]:
    values = board.done(key).values
    return {'key': key, 'config': str(root / values['config']['file']), 'shape': values['shape']}
