"""Values that runs hand to each other: references filled in, files kept relative, and digests of what was asked for."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .plan import From, Seed

__all__ = ['Unreachable', 'as_file', 'digest', 'fill', 'from_json', 'to_json', 'unreachable']

FILE, UNREACHABLE, TUPLE = 'file', 'unreachable', 'tuple'


class Unreachable(Exception):
    """A value is asked for that an earlier run has found to be out of reach; the text says why."""


def as_file(path: Path, root: Path) -> dict[str, str]:
    """A file as a value: relative to the folder of the suite, which may so be moved."""
    return {FILE: path.resolve().relative_to(root.resolve()).as_posix()}


def unreachable(reason: str) -> dict[str, str]:
    """In the place of a value that there is none of; whoever asks for it is left out."""
    return {UNREACHABLE: reason}


def fill(node: Any, values_of: Callable[[str], Mapping[str, Any]], root: Path, seed: int | None = None) -> Any:
    """A copy with every reference replaced by what it stands for.

    Args:
        node: Nested mappings and sequences.
        values_of: The values of a run by its name.
        root: Folder of the suite, which files are relative to.
        seed: What stands for :class:`Seed`.

    Raises:
        Unreachable: If there is no such value, since it is out of reach.
        ValueError: If there is no such value for another reason, or its file is gone.
    """
    if isinstance(node, From):
        return from_json(_look_up(node, values_of(node.run), root))
    if isinstance(node, Seed):
        return seed
    if isinstance(node, Mapping):
        return {key: fill(value, values_of, root, seed) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(fill(value, values_of, root, seed) for value in node)
    return node


def _look_up(reference: From, values: Mapping[str, Any], root: Path) -> Any:
    found: Any = values
    for key in reference.path:
        if isinstance(found, Mapping) and UNREACHABLE in found:
            raise Unreachable(found[UNREACHABLE])
        if not isinstance(found, Mapping) or key not in found:
            raise ValueError(f'{reference} was not found by that run.')
        found = found[key]
    if isinstance(found, Mapping) and UNREACHABLE in found:
        raise Unreachable(found[UNREACHABLE])
    if isinstance(found, Mapping) and set(found) == {FILE}:
        path = (root / found[FILE]).resolve()
        if not path.exists():
            raise ValueError(f'{path} is gone, which {reference.run} has left: make that anew by --again.')
        return str(path)
    return found


def to_json(node: Any) -> Any:
    """For JSON, which knows no tuples: transforms of images tell a size from a list of sizes by that."""
    if isinstance(node, Mapping):
        return {key: to_json(value) for key, value in node.items()}
    if isinstance(node, tuple):
        return {TUPLE: [to_json(value) for value in node]}
    return [to_json(value) for value in node] if isinstance(node, list) else node


def from_json(node: Any) -> Any:
    """The inverse of :func:`to_json`."""
    if isinstance(node, Mapping):
        if set(node) == {TUPLE}:
            return tuple(from_json(value) for value in node[TUPLE])
        return {key: from_json(value) for key, value in node.items()}
    return [from_json(value) for value in node] if isinstance(node, list) else node


def digest(node: Any) -> str:
    """Twelve letters that change with whatever is in nested mappings and sequences."""
    text = json.dumps(_plain(node), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(node: Any) -> Any:
    """For JSON; a tuple is a list, and a reference is what it refers to."""
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(value) for value in node]
    if isinstance(node, bool | int | float | str) or node is None:
        return node
    return f'{type(node).__name__} {node}' if isinstance(node, From) else getattr(node, '__name__', str(node))
