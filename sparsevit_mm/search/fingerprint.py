"""What tells studies apart: what is searched as JSON data, and in what two of them differ."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ['differences', 'jsonable']


def jsonable(value: Any) -> Any:
    """A config value as JSON data: sequences become lists, what JSON has no form for its name."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((jsonable(item) for item in value), key=repr)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [jsonable(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, type) or callable(value):
        return f'{getattr(value, "__module__", "")}.{getattr(value, "__qualname__", type(value).__name__)}'
    return str(value)


def _leaves(value: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Every leaf of nested JSON data with its dotted path."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f'{path}.{key}' if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        for i, item in enumerate(value):
            yield from _leaves(item, f'{path}.{i}')
    else:
        yield path, value


def differences(stored: Mapping, present: Mapping) -> list[str]:
    """One line for every leaf in which two fingerprints differ, empty where they agree."""
    missing = object()
    a, b = dict(_leaves(stored)), dict(_leaves(present))
    lines = []
    for key in [*a, *(key for key in b if key not in a)]:
        old, new = a.get(key, missing), b.get(key, missing)
        if old != new:
            shown = ['nothing' if value is missing else repr(value) for value in (old, new)]
            lines.append(f'{key} is {shown[0]} in the study and {shown[1]} now')
    return lines
