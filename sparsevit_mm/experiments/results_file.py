"""The one file of results: a line of JSON for every end of a run, of which none is ever changed or removed."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

__all__ = ['STATES', 'Record', 'ResultsFile', 'latest', 'read_records', 'standing']

STATES = ('done', 'failed', 'left out')
OPENING = b'{"id": '


@dataclass(frozen=True)
class Record:
    """What became of a task.

    Args:
        id: Tells the record from all others.
        suite: Name of the suite.
        run: Name of the run.
        seed: None where the run has none.
        state: One of :data:`STATES`; what is out of reach is left out.
        recipe: Digest of all that was asked for, that of the runs it needs included.
        needs: Key of each task that values were taken from, and the id of the record that had them.
        values: What was found.
        error: Why it failed or was left out.
        kind: What the run does.
        config: The config file that it started from, and with what it was changed.
        row: Label and budget of the row in the report when it was made, None for a step on the way; reports go by what
            the suite says now.
        commit: Of the project, with a ``+`` where files differed from it.
        environment: Where it ran.
        started: Time of the start, UTC.
        seconds: How long it took since its last start.
        starts: How many there were, interrupted ones included.
    """

    id: str
    suite: str
    run: str
    seed: int | None
    state: str
    recipe: str
    needs: Mapping[str, str]
    values: Mapping[str, Any]
    error: str | None
    kind: str
    config: Mapping[str, Any]
    row: Mapping[str, Any] | None
    commit: str
    environment: Mapping[str, Any]
    started: str
    seconds: float
    starts: int

    @property
    def key(self) -> str:
        """That of the task, see :attr:`Task.key`."""
        return self.run if self.seed is None else f'{self.run}/seed{self.seed}'


class ResultsFile:
    """Appends records and reads them back.

    Args:
        path: The file; it is made with the first record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Record) -> None:
        """Add a record. It is on the disk when this returns.

        A line that an earlier process left unfinished stays as it is; the record gets a line of its own.

        Raises:
            OSError: If the file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open('a+b') as file, _locked(file.fileno()):
            end = file.seek(0, os.SEEK_END)
            unfinished = False
            if end:
                file.seek(end - 1)
                unfinished = file.read(1) != b'\n'
            line = json.dumps(asdict(record)) + '\n'
            file.write(b'\n' * unfinished + line.encode())
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> tuple[list[Record], list[str]]:
        """See :func:`read_records`; nothing if there is no file yet."""
        return read_records(self.path) if self.path.exists() else ([], [])


def read_records(path: Path) -> tuple[list[Record], list[str]]:
    """The records of a file in their order, and a sentence for each line that is none.

    Raises:
        ValueError: If its first line is nothing that was meant to be a record.
        OSError: If it cannot be opened.
    """
    records, remarks = [], []
    lines = path.read_bytes().split(b'\n')
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            records.append(_record(json.loads(line)))
        except (ValueError, TypeError, KeyError):  # a UnicodeDecodeError is a ValueError
            what = 'was not written to its end' if number == len(lines) else 'is no record'
            remarks.append(f'line {number} of {path} {what}: it is left as it is and not used')
    if remarks and not records and not lines[0].startswith(OPENING[: len(lines[0])]):
        raise ValueError(f'{path} has no record of an experiment in it: move it away, or name another file.')
    return records, remarks


def latest(records: Iterable[Record], states: Iterable[str] = ('done',)) -> dict[str, Record]:
    """The last record of each task among those in some states."""
    states = set(states)
    return {record.key: record for record in records if record.state in states}


def standing(records: Iterable[Record]) -> dict[str, Record]:
    """The last record of each task that was built on the last ones of what it needs.

    Values of a run that was made anew are so never beside those of a run that had taken its former ones. A
    measurement, which takes times of many, stands with those that it has of models that have not changed.
    """
    found = latest(records)
    while True:
        stale = [
            key
            for key, record in found.items()
            if record.kind != 'measure'
            and any(need not in found or found[need].id != built_on for need, built_on in record.needs.items())
        ]
        if not stale:
            return found
        for key in stale:
            del found[key]


def _record(values: Mapping[str, Any]) -> Record:
    if set(values) != {field.name for field in fields(Record)} or values['state'] not in STATES:
        raise ValueError('this is no record')
    return Record(**values)


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Alone at the file among the processes of this machine, where the system has such locks."""
    try:
        import fcntl
    except ImportError:  # not on Windows; the driver alone writes there
        yield
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
