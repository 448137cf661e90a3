"""What a suite of experiments consists of: runs that need each other, rows to report, claims to check."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ['KINDS', 'Claim', 'From', 'Row', 'Run', 'Seed', 'Suite', 'Task', 'budget_name']

# What a run may do, see the modules of sparsevit_mm.experiments.jobs.
KINDS = ('calibrate', 'train', 'evaluate', 'search', 'measure')


@dataclass(frozen=True)
class From:
    """A value that another run finds.

    Args:
        run: Its name. A run with seeds takes it from the run of its own seed.
        path: Keys into its values, one below the other.
    """

    run: str
    path: tuple[str, ...]

    def __init__(self, run: str, *path: str) -> None:
        object.__setattr__(self, 'run', run)
        object.__setattr__(self, 'path', path)

    def __str__(self) -> str:
        return f'{self.run}: {".".join(self.path)}'


@dataclass(frozen=True)
class Seed:
    """In the place of a value: the seed of the run."""


@dataclass(frozen=True)
class Row:
    """How a run is reported.

    Args:
        label: Of its row; runs of one label and different budgets make a line of the plot.
        budget: Latency of the backbone as a fraction of dense that the run is made for; None for those without.
    """

    label: str
    budget: float | None = None


@dataclass(frozen=True)
class Run:
    """One step of a suite, made once or once a seed.

    Args:
        name: Tells it from the others of its suite.
        kind: One of :data:`KINDS`.
        config: A config file, below the folder with the configs.
        overrides: Dotted keys of the config and their values, which may be :class:`From` and :class:`Seed`.
        adopt: Overrides that another run has found, as a whole.
        options: Of the kind; values may be :class:`From`.
        seeded: Whether it is made once for each seed.
        row: How it is reported; None for a step on the way.
    """

    name: str
    kind: str
    config: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    adopt: From | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    seeded: bool = True
    row: Row | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the runs that its values come from."""
        found = references((self.overrides, self.adopt, self.options))
        return tuple(dict.fromkeys(reference.run for reference in found))

    @property
    def alone(self) -> bool:
        """Whether nothing else may run beside it, since it takes times."""
        return self.kind in ('calibrate', 'measure')


@dataclass(frozen=True)
class Claim:
    """Something that papers say, as a comparison of two rows.

    Args:
        text: The claim.
        of: Label of the row that it is about.
        against: Label of the row that it is compared with.
        budget: Of both; a row without a budget serves for all.
        least: The least difference of the metric (``of`` less ``against``) at which it holds.
        part: What ``of`` has and ``against`` does not, for the table of parts; None for other claims.
    """

    text: str
    of: str
    against: str
    budget: float | None = None
    least: float = 0.0
    part: str | None = None


@dataclass(frozen=True)
class Task:
    """A run with a seed.

    Args:
        run: The run.
        seed: None where the run is made once.
    """

    run: Run
    seed: int | None

    @property
    def key(self) -> str:
        """It tells the task from all others of its suite: ``found-65/seed1``, ``calibrate``."""
        return self.run.name if self.seed is None else f'{self.run.name}/seed{self.seed}'


@dataclass(frozen=True)
class Suite:
    """Runs that answer one question.

    Args:
        name: On the command line.
        title: Of its chapter in the report.
        about: A paragraph for the report: data, model, lengths, and what is not comparable.
        runs: In the order in which they are started as far as their needs allow: what matters most comes first.
        metric: Name of the reported metric, as the evaluator gives it.
        metric_title: The same for a head of a table.
        scale: Factor of the metric in the report.
        split: Reported split, ``test`` or ``val``.
        seeds: Seeds of the runs that have any.
        dense: Label of the row that latencies are fractions of.
        reference: Label of the row that :attr:`compared` is less or more accurate than.
        compared: Labels of the rows that stand for the family where suites of the same metric are side by side.
        claims: What is checked in the report.
        data: Files or folders below the project that have to be there.
        left_out: What a reader would look for in vain, and why.

    Raises:
        ValueError: If names repeat, or a run needs one that does not come before it.
    """

    name: str
    title: str
    about: str
    runs: tuple[Run, ...]
    metric: str
    metric_title: str
    scale: float = 1.0
    split: str = 'test'
    seeds: tuple[int, ...] = (0, 1, 2)
    dense: str = 'dense'
    reference: str = 'dense, trained as long'
    compared: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    data: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        before: dict[str, Run] = {}
        for run in self.runs:
            if run.kind not in KINDS:
                raise ValueError(f'kind of run {run.name} must be one of {", ".join(KINDS)}, got {run.kind!r}.')
            if run.name in before:
                raise ValueError(f'suite {self.name} has two runs named {run.name}: names must differ.')
            for name in run.needs:
                if name not in before:
                    raise ValueError(f'run {run.name} needs {name}, which is no run before it in suite {self.name}.')
                if before[name].seeded and not run.seeded:
                    raise ValueError(f'run {run.name} is made once, but needs {name}, which is made once a seed.')
            before[run.name] = run

    def tasks(self, seeds: Sequence[int] | None = None) -> Iterator[Task]:
        """All runs with their seeds: a run with all of its seeds, then the next run."""
        for run in self.runs:
            for seed in (self.seeds if seeds is None else seeds) if run.seeded else (None,):
                yield Task(run, seed)

    @property
    def rows(self) -> dict[str, Row]:
        """How runs are reported, by their names; without steps on the way."""
        return {run.name: run.row for run in self.runs if run.row is not None}

    def needs_of(self, task: Task) -> list[Task]:
        """The tasks that one takes values from."""
        by_name = {run.name: run for run in self.runs}
        runs = (by_name[name] for name in task.run.needs)
        return [Task(run, task.seed if run.seeded else None) for run in runs]


def references(node: Any) -> Iterator[From]:
    """All :class:`From` in nested mappings and sequences."""
    if isinstance(node, From):
        yield node
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from references(value)


def budget_name(budget: float) -> str:
    """A budget as a key of values: ``0.65``."""
    return f'{budget:g}'
