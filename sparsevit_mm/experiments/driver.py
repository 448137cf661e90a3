"""Running what is not done of a suite, each run in a process of its own, from wherever earlier starts got to."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from .board import Board, Place
from .configs import ConfigBook
from .jobs.job import JOB_FILE, read_result
from .outcome import Outcome, count_start, record_of, starts_of
from .plan import Suite, Task
from .preparation import prepare
from .process import FolderLock, end, end_left_over, reason, start
from .recipes import recipes_of
from .results_file import Record, ResultsFile
from .values import Unreachable, digest
from .worker import DEVICE_GONE
from .workplace import Workplace

__all__ = ['Driver', 'Told']

# Called with a task and what happens to it: a word and a sentence.
Told = Callable[[Task, str, str], object]
SECONDS_BETWEEN_LOOKS = 0.1
PATIENCE = 30.0  # seconds until what a killed start had started is gone


@dataclass
class _Active:
    """A run that is being made."""

    place: Place
    folder: Path
    lock: FolderLock
    started: datetime
    process: subprocess.Popen | None
    begun: float = field(default_factory=time.monotonic)


class Driver:
    """A suite at a workplace.

    Args:
        suite: The suite.
        workplace: Where it runs.
        seeds: Of the runs that have any; those of the suite if not given.
        told: Hears what happens.
        worker: Words that start the process of a run, in front of the file of its job.

    Raises:
        ValueError: If a config cannot be read, or the file of results is none.
    """

    def __init__(
        self,
        suite: Suite,
        workplace: Workplace,
        seeds: Sequence[int] | None = None,
        told: Told | None = None,
        worker: Sequence[str] | None = None,
    ) -> None:
        self.suite, self.workplace = suite, workplace
        self.tasks = list(suite.tasks(seeds))
        self._worker = worker or (sys.executable, '-W', 'ignore', '-m', f'{__package__}.worker')
        self._tell = told or (lambda task, word, sentence: None)
        self._book = ConfigBook(workplace.project / 'configs')
        self._recipes = recipes_of(suite, self.tasks, self._book.content, workplace.conditions)
        self._file = ResultsFile(workplace.results)
        records, self.remarks = self._file.read()
        self._again: set[str] = set()
        self._known = {record.id for record in records}
        self.board = self._look(records)

    def make_again(self, keys: Iterable[str]) -> None:
        """Let tasks be made anew though they are done. What has been made stays in the file of results."""
        self._again |= set(keys)
        self.board = self._look(self._file.read()[0])

    def run(self, selected: Iterable[str] | None = None, jobs: int = 1) -> bool:
        """Make what is not done; a run that fails stops only those that need it.

        Args:
            selected: Keys of the tasks that are wanted; all if not given. What they need is made too.
            jobs: How many may run at a time; those that take times run alone.

        Returns:
            Whether all of them are done or out of reach now.

        Raises:
            InUse: If another process is at this suite.
            ValueError: If the device is gone.
        """
        lock = FolderLock(self.workplace.root / '.lock')
        lock.take()
        wanted = self._with_needs(selected)
        active: list[_Active] = []
        tried: set[str] = set()
        try:
            while True:
                for one in [one for one in active if self._ended(one)]:
                    active.remove(one)
                    self._finish(one)
                while len(active) < jobs and (place := self._next(wanted, tried, active)) is not None:
                    tried.add(place.task.key)
                    if (one := self._begin(place, jobs)) is not None:
                        active.append(one)
                if not active:
                    break
                time.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            for one in active:
                if one.process is not None:
                    end(one.process)
                end_left_over(one.folder)
                one.lock.release()
            lock.release()
        return all(self.board.places[key].settled for key in wanted)

    def _look(self, records: Iterable[Record]) -> Board:
        return Board(self.suite, self.tasks, self._recipes, records, self._again, self._known)

    def _with_needs(self, selected: Iterable[str] | None) -> list[str]:
        """Keys in the order of the suite."""
        if selected is None:
            return list(self.board.places)
        found, left = set(), list(selected)
        while left:
            key = left.pop()
            if key not in found:
                found.add(key)
                left += [need.key for need in self.suite.needs_of(self.board.places[key].task)]
        return [key for key in self.board.places if key in found]

    def _next(self, wanted: Sequence[str], tried: set[str], active: Sequence[_Active]) -> Place | None:
        """The first task that can be made now."""
        if any(one.place.task.run.alone for one in active):
            return None
        for key in wanted:
            place = self.board.places[key]
            if key in tried or place.state not in ('ready', 'failed'):
                continue
            if not place.task.run.alone:
                return place
            if not active:
                return place
            if place.task.run.kind == 'calibrate':  # what comes after it most likely needs it: let the others end
                return None
        return None

    # One run

    def _begin(self, place: Place, jobs: int) -> _Active | None:
        """Start the process of a task, or find that there is none to start."""
        task, started = place.task, datetime.now(timezone.utc)
        folder = self._folder(place)
        lock = FolderLock(folder / '.lock')
        end_left_over(folder)
        lock.take(PATIENCE)
        try:
            job = prepare(place, self.board, self._book, self.workplace, folder)
        except (Unreachable, ValueError) as error:
            lock.release()
            state = 'left out' if isinstance(error, Unreachable) else 'failed'
            self._put(place, Outcome(state, started, str(error)))
            return None
        one = _Active(place, folder, lock, started, None)
        if read_result(folder) is not None:  # made to its end by a start that was killed before it wrote that down
            return one
        count_start(folder, started)
        self._tell(task, 'started', f'log in {folder / "log.txt"}')
        job.save()
        one.process = start(
            [*self._worker, str(folder / JOB_FILE)],
            folder=folder,
            place=self.workplace.project,
            environment=self.workplace.environment(1 if task.run.alone else jobs),
            lock=lock,
        )
        return one

    def _folder(self, place: Place) -> Path:
        """Of its own for each recipe and for the values that it is made of."""
        task, needs = place.task, place.needs
        name = f'{task.key.replace("/", "-")}-{digest([self._recipes[task.key], dict(needs)])}'
        before = [r for r in self.board.same(task, needs) if r.state == 'done' and r.id in self._known]
        if task.key in self._again and before:
            name += f'-{len(before)}'
        folder = self.workplace.root / 'runs' / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _ended(self, one: _Active) -> bool:
        return one.process is None or one.process.poll() is not None

    def _finish(self, one: _Active) -> None:
        """Write down what became of a run.

        Raises:
            ValueError: If the device is gone.
        """
        status = 0 if one.process is None else one.process.returncode
        end_left_over(one.folder)
        result = read_result(one.folder)
        starts = starts_of(one.folder)
        one.lock.release()
        if result is not None:
            self._put(one.place, Outcome('done', one.started, starts=starts, **result))
            return
        gone = status == DEVICE_GONE
        error = 'the device is gone' if gone else reason(status, one.folder / 'log.txt')
        seconds = time.monotonic() - one.begun
        self._put(one.place, Outcome('failed', one.started, error, seconds=seconds, starts=starts))
        if gone:
            raise ValueError(
                f'device {self.workplace.device} is gone. What was done is kept in {self.workplace.results}: start '
                f'again when it is back.'
            )

    def _put(self, place: Place, outcome: Outcome) -> None:
        task = place.task
        record = record_of(place, self._recipes[task.key], self.suite.name, self.workplace, outcome)
        self._file.append(record)
        self.board = self._look(self._file.read()[0])
        self._tell(task, record.state, record.error or f'{record.seconds:.0f} s')
