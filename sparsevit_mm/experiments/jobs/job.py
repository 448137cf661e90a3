"""What a process of its own is told to do, and the folder that it does it in."""

import gc
import json
import os
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files import written_whole
from ..values import as_file, from_json, to_json

__all__ = ['CONFIG_FILE', 'JOB_FILE', 'RESULT_FILE', 'Job', 'read_result', 'write_whole']

JOB_FILE, CONFIG_FILE, RESULT_FILE = 'job.json', 'config.py', 'result.json'


@dataclass(frozen=True)
class Job:
    """A run with all of its values known.

    Args:
        kind: What is to be done.
        project: Folder with ``tools`` and ``configs``.
        root: Folder of the suite.
        folder: Of the run, with its config; whatever it leaves goes there.
        options: Of the kind.
        seed: None where the run has none.
        device: ``cpu`` or ``cuda``.
        threads: Intra-op threads of torch that latencies are measured with; None for torch's own number.
    """

    kind: str
    project: Path
    root: Path
    folder: Path
    options: Mapping[str, Any]
    seed: int | None
    device: str
    threads: int | None

    @property
    def config(self) -> Path:
        """The config of the run."""
        return self.folder / CONFIG_FILE

    def file(self, path: Path) -> dict[str, str]:
        """A file as a value of the run."""
        return as_file(path, self.root)

    def save(self) -> None:
        """Write it for :meth:`load`."""
        options = to_json(dict(self.options))
        paths = {name: str(getattr(self, name)) for name in ('project', 'root', 'folder')}
        values = {'kind': self.kind, **paths, 'options': options, 'seed': self.seed}
        write_whole(self.folder / JOB_FILE, {**values, 'device': self.device, 'threads': self.threads})

    @classmethod
    def load(cls, path: Path) -> 'Job':
        """The job of a file."""
        values = json.loads(path.read_text())
        values['options'] = from_json(values['options'])
        return cls(**{**values, **{name: Path(values[name]) for name in ('project', 'root', 'folder')}})

    def tool(self, name: str, words: Sequence[str]) -> None:
        """Run one of the project's tools in this process, which has imported already what it needs.

        Raises:
            ValueError: On a mistake that the tool finds; tools raise others too.
        """
        found = runpy.run_path(str(self.project / 'tools' / name))
        found['main'](list(words))
        gc.collect()  # data loaders keep their processes until they are gone


def write_whole(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file that is there as a whole or not at all."""
    with written_whole(path) as unfinished, unfinished.open('w') as file:
        file.write(json.dumps(values, indent=1) + '\n')
        file.flush()
        os.fsync(file.fileno())


def read_result(folder: Path) -> dict[str, Any] | None:
    """What a process has left in the folder of its run, None if it has not come to its end."""
    try:
        return json.loads((folder / RESULT_FILE).read_text())
    except FileNotFoundError:
        return None
