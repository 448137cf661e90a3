"""Where a suite is run: its folders, the device that it was begun on, and the versions of what runs."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..version import __version__
from .jobs.job import write_whole
from .plan import Suite

__all__ = ['Workplace', 'check_data', 'commit_of']

SETTINGS = 'suite.json'
# The C library gives large buffers back to the system and maps them anew at every use, by thresholds that move with
# what was freed before: a narrow Swin takes 37 or 57 ms by what ran before it in its process.
ALLOCATOR = {'MALLOC_MMAP_THRESHOLD_': str(32 << 20), 'MALLOC_TRIM_THRESHOLD_': str(1 << 30)}


@dataclass(frozen=True)
class Workplace:
    """Folders and settings of a suite.

    Args:
        project: Folder with ``configs``, ``tools`` and ``data``; runs are started in it.
        root: Folder of the suite.
        device: ``cpu`` or ``cuda``.
        threads: Intra-op threads of torch that latencies are measured with; None for torch's own number.
    """

    project: Path
    root: Path
    device: str
    threads: int | None

    @property
    def results(self) -> Path:
        """The file of results."""
        return self.root / 'results.jsonl'

    @property
    def conditions(self) -> dict[str, str | int | None]:
        """What runs that take times depend on."""
        return {'device': self.device, 'threads': self.threads}

    def environment(self, share: int = 1) -> dict[str, str]:
        """Variables of the process of a run.

        Args:
            share: How many such processes share the cores; threads that wait for each other take many times as long.
        """
        found = {name: value for name, value in ALLOCATOR.items() if name not in os.environ}
        if share > 1 and 'OMP_NUM_THREADS' not in os.environ:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
            found['OMP_NUM_THREADS'] = str(max(1, cores // share))
        if self.device == 'cpu':
            found['CUDA_VISIBLE_DEVICES'] = ''
        paths = [str(self.project), *filter(None, [os.environ.get('PYTHONPATH')])]
        return {**found, 'PYTHONPATH': os.pathsep.join(paths)}

    @classmethod
    def open(
        cls, suite: Suite, project: Path, root: Path, device: str | None = None, threads: int | None = None
    ) -> 'Workplace':
        """The place of a suite, which goes on on the device that it was begun on if none is named.

        Args:
            suite: The suite.
            project: See :class:`Workplace`.
            root: Likewise.
            device: None for that of the last start, at first for a CUDA device if there is one.
            threads: None for that of the last start.

        Raises:
            ValueError: If the device is not there, or the folder holds another suite.
            OSError: If it cannot be written to.
        """
        root = root.resolve()
        root.mkdir(parents=True, exist_ok=True)
        file = root / SETTINGS
        known = _read(file)
        if known.get('suite', suite.name) != suite.name:
            raise ValueError(f'{root} holds the suite {known["suite"]}, not {suite.name}: give another --work-dir.')
        begun_on = known.get('device')
        device = device or begun_on or ('cuda' if _has_cuda() else 'cpu')
        threads = known.get('threads') if threads is None else threads
        if device not in ('cpu', 'cuda'):
            raise ValueError(f'--device must be cpu or cuda, got {device!r}.')
        if device == 'cuda' and not _has_cuda():
            begun = ', which the suite was begun on,' if begun_on == 'cuda' else ''
            raise ValueError(
                f'device cuda{begun} is not there now: nothing was started and nothing is lost. Start again when it is '
                f'back, or go on with --device cpu; budgets and what depends on them are then measured anew.'
            )
        write_whole(file, {'suite': suite.name, 'device': device, 'threads': threads})
        return cls(project.resolve(), root, device, threads)


def check_data(suite: Suite, project: Path) -> None:
    """See that what a suite needs is there.

    Raises:
        ValueError: If something is missing.
    """
    missing = [path for path in suite.data if not (project / path).exists()]
    if missing:
        raise ValueError(
            f'suite {suite.name} needs {", ".join(missing)} in {project}, which is not there: '
            f'configs/sparsevit/README.md says what belongs in data/.'
        )


def commit_of(project: Path) -> str:
    """Short name of the commit, with a ``+`` where tracked files differ from it; the version where there is none."""
    try:
        name = _git(project, 'rev-parse', '--short=12', 'HEAD')
        return name + '+' * bool(_git(project, 'status', '--porcelain', '--untracked-files=no'))
    except (OSError, subprocess.CalledProcessError):
        return f'version {__version__}'


def _git(project: Path, *words: str) -> str:
    return subprocess.run(
        ['git', '-C', str(project), *words], capture_output=True, text=True, check=True
    ).stdout.strip()


def _read(file: Path) -> dict:
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f'{file} cannot be read ({error}). Mend or remove it: it names device and threads.') from error


def _has_cuda() -> bool:
    """As a new process sees it: torch is not needed in this one, and remembers what it saw first."""
    code = 'import sys, torch; sys.exit(not torch.cuda.is_available())'
    return subprocess.run([sys.executable, '-c', code], stderr=subprocess.DEVNULL).returncode == 0
