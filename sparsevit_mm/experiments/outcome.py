"""What became of a start of a run, and the record of it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from .board import Place
from .results_file import Record
from .workplace import Workplace, commit_of

__all__ = ['Outcome', 'count_start', 'record_of', 'starts_of']

STARTS = 'starts'  # a line for each start of a run


@dataclass(frozen=True)
class Outcome:
    """The end of a start of a run.

    Args:
        state: See :class:`Record`.
        started: When it began.
        error: Why it failed or was left out.
        values: What was found.
        environment: Where it ran.
        seconds: How long it took.
        starts: How many there were, this one included.
    """

    state: str
    started: datetime
    error: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    starts: int = 0


def record_of(place: Place, recipe: str, suite: str, workplace: Workplace, outcome: Outcome) -> Record:
    """The line of the file of results.

    Args:
        place: Of the task, as it was when the run was started.
        recipe: Of the task.
        suite: Its name.
        workplace: Where it runs.
        outcome: What became of it.
    """
    run, row = place.task.run, place.task.run.row
    return Record(
        id=uuid.uuid4().hex[:12],
        suite=suite,
        run=run.name,
        seed=place.task.seed,
        state=outcome.state,
        recipe=recipe,
        needs=dict(place.needs),
        values=outcome.values,
        error=outcome.error,
        kind=run.kind,
        config={
            'file': run.config,
            'overrides': {key: str(value) for key, value in run.overrides.items()},
            'conditions': workplace.conditions,
        },
        row=None if row is None else {'label': row.label, 'budget': row.budget},
        commit=commit_of(workplace.project),
        environment=outcome.environment,
        started=outcome.started.isoformat(timespec='seconds'),
        seconds=round(outcome.seconds, 1),
        starts=outcome.starts,
    )


def count_start(folder: Path, started: datetime) -> None:
    """Note in the folder of a run that it is started."""
    with (folder / STARTS).open('a') as file:
        file.write(f'{started.isoformat(timespec="seconds")}\n')


def starts_of(folder: Path) -> int:
    """How often a run was started."""
    path = folder / STARTS
    return len(path.read_text().splitlines()) if path.exists() else 0
