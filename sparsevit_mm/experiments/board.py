"""Where each task of a suite stands, told from the records alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .plan import Suite, Task
from .results_file import Record

__all__ = ['Board', 'Place']


@dataclass(frozen=True)
class Place:
    """Where a task stands.

    Args:
        task: The task.
        state: ``done``, ``left out``, ``failed``, ``ready`` (all that it needs is there) or ``waiting``.
        record: The one that says so.
        needs: Key of each task that it takes values from, and the id of the record that has them, as far as known.
        remark: What a user may want to know, such as what it waits for.
    """

    task: Task
    state: str
    record: Record | None
    needs: Mapping[str, str]
    remark: str = ''

    @property
    def settled(self) -> bool:
        """Whether there is nothing to do."""
        return self.state in ('done', 'left out')


class Board:
    """The places of all tasks.

    Args:
        suite: The suite.
        tasks: Those of it, in its order; what one needs is among them.
        recipes: By key, see :func:`recipes_of`.
        records: All there are, in their order.
        again: Keys of tasks that are to be made again: only records with an id beyond those in ``known`` count.
        known: Ids of the records that were there before.
    """

    def __init__(
        self,
        suite: Suite,
        tasks: Sequence[Task],
        recipes: Mapping[str, str],
        records: Iterable[Record],
        again: Iterable[str] = (),
        known: Iterable[str] = (),
    ) -> None:
        self.suite, self.recipes = suite, recipes
        self._records: dict[str, list[Record]] = {}
        for record in records:
            self._records.setdefault(record.key, []).append(record)
        self._again, self._known = set(again), set(known)
        self.places: dict[str, Place] = {}
        for task in tasks:
            self.places[task.key] = self._measured(task) if task.run.kind == 'measure' else self._place(task)

    def done(self, key: str) -> Record | None:
        """The record that has the values of a task."""
        place = self.places[key]
        return place.record if place.state == 'done' else None

    def same(self, task: Task, needs: Mapping[str, str]) -> list[Record]:
        """All records of a task that were made of this recipe and of these values, the last one last."""
        found = self._records.get(task.key, ())
        recipe = self.recipes[task.key]
        return [record for record in found if record.recipe == recipe and dict(record.needs) == dict(needs)]

    def _place(self, task: Task) -> Place:
        needed = self.suite.needs_of(task)
        missing = [need.key for need in needed if self.places[need.key].state != 'done']
        if missing:
            out = [key for key in missing if self.places[key].state == 'left out']
            if out:
                return Place(task, 'left out', None, {}, f'{out[0]} is left out: {self.places[out[0]].remark}')
            return Place(task, 'waiting', None, {}, f'waits for {", ".join(missing)}')
        needs = {need.key: self.places[need.key].record.id for need in needed}
        counted = [r for r in self.same(task, needs) if task.key not in self._again or r.id not in self._known]
        if done := [record for record in counted if record.state == 'done']:
            return Place(task, 'done', done[-1], needs)
        if counted:
            return Place(task, counted[-1].state, counted[-1], needs, counted[-1].error or '')
        return Place(task, 'ready', None, needs, self._former(task, needs))

    def _former(self, task: Task, needs: Mapping[str, str]) -> str:
        """Why a result that is there does not count."""
        done = [record for record in self._records.get(task.key, ()) if record.state == 'done']
        if not done:
            return ''
        if task.key in self._again:
            return 'is made again'
        kept = 'its result stays in the file and is not used'
        if done[-1].recipe != self.recipes[task.key]:
            return f'the config or the options have changed since it was made: {kept}'
        other = [key for key in needs if done[-1].needs.get(key) != needs[key]]
        return f'it was made of another result of {", ".join(other)}: {kept}'

    def _measured(self, task: Task) -> Place:
        """A measurement takes the models that there are, and is done when it has them all."""
        rows = {
            key: place.record.id
            for key, place in self.places.items()
            if place.task.run.row is not None and place.state == 'done'
        }
        if not rows:
            return Place(task, 'waiting', None, {}, 'waits for a row')
        recipe = self.recipes[task.key]
        own = [
            record
            for record in self._records.get(task.key, ())
            if record.recipe == recipe and (task.key not in self._again or record.id not in self._known)
        ]
        done = [record for record in own if record.state == 'done']
        if done and rows.items() <= done[-1].needs.items():
            return Place(task, 'done', done[-1], rows)
        if own and own[-1].state == 'failed' and dict(own[-1].needs) == rows:
            return Place(task, 'failed', own[-1], rows, own[-1].error or '')
        had = done[-1].needs if done else {}
        fresh = sum(had.get(key) != id_ for key, id_ in rows.items())
        return Place(task, 'ready', None, rows, f'{fresh} of {len(rows)} rows not measured yet' if done else '')
