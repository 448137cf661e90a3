"""Digests of what runs are asked for: a run whose recipe has changed is made again, not mixed with what it was."""

from collections.abc import Callable, Mapping
from typing import Any

from .plan import Suite, Task
from .values import digest

__all__ = ['recipes_of']


def recipes_of(
    suite: Suite, tasks: list[Task], content_of: Callable[[str], Mapping[str, Any]], conditions: Mapping[str, Any]
) -> dict[str, str]:
    """The recipe of each task, by its key.

    It changes with the content of the config, its bases included, with overrides, options and seed, and with the
    recipes of the runs that values are taken from. How a run is reported, and the version of the code, are no part of
    it.

    Args:
        suite: The suite.
        tasks: Those of it, in its order; what one needs is among them.
        content_of: What a config file says, by its name.
        conditions: Device and threads, which runs that take times depend on.
    """
    contents: dict[str, str] = {}
    found: dict[str, str] = {}
    for task in tasks:
        run = task.run
        if run.config not in contents:
            contents[run.config] = digest(content_of(run.config))
        found[task.key] = digest(
            {
                'kind': run.kind,
                'config': contents[run.config],
                'overrides': run.overrides,
                'adopt': run.adopt,
                'options': run.options,
                'seed': task.seed,
                'conditions': conditions if run.alone else None,
                'needs': {need.key: found[need.key] for need in suite.needs_of(task)},
            }
        )
    return found
