"""The process of a run: ``python -m sparsevit_mm.experiments.worker FOLDER/job.json``.

Whatever it has found is written in one step when all is done, so a process that is killed leaves nothing that could be
taken for a result.
"""

import importlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..cli import run_tool
from ..processes import end_with_parent
from .jobs.job import RESULT_FILE, Job, write_whole

__all__ = ['DEVICE_GONE', 'main']

DEVICE_GONE = 75  # exit status: the device was not there, or is not any more
KINDS = {
    'calibrate': ('calibrating', 'calibrate_run'),
    'train': ('training', 'train_run'),
    'evaluate': ('training', 'evaluate_run'),
    'search': ('searching', 'search_run'),
    'measure': ('measuring', 'measure_run'),
}
PROBE = 'import sys, torch; torch.zeros(1, device="cuda"); torch.cuda.synchronize()'


def main(argv: Sequence[str] | None = None) -> int:
    """Do the job of a file; returns the exit status.

    Raises:
        ValueError: If it cannot be done.
        OSError: If a file cannot be read or written.
    """
    job = Job.load(Path((sys.argv[1:] if argv is None else argv)[0]))
    if device_gone(job.device):
        return DEVICE_GONE
    begun = time.monotonic()
    try:
        values = _function(job.kind)(job)
    except BaseException:
        if device_gone(job.device):
            _print_chain()
            return DEVICE_GONE
        raise
    result = {'values': values, 'environment': _environment(job), 'seconds': round(time.monotonic() - begun, 1)}
    write_whole(job.folder / RESULT_FILE, result)
    return 0


def device_gone(device: str) -> bool:
    """Whether a CUDA device does not answer, as a new process sees it: one that has failed is lost to its own."""
    if device == 'cpu':
        return False
    return subprocess.run([sys.executable, '-c', PROBE], stderr=subprocess.DEVNULL).returncode != 0


def _function(kind: str) -> Callable[[Job], dict[str, Any]]:
    module, name = KINDS[kind]
    return getattr(importlib.import_module(f'.jobs.{module}', __package__), name)


def _print_chain() -> None:
    import traceback

    traceback.print_exc()


def _environment(job: Job) -> dict[str, Any]:
    from ..cost.suite_file import suite_environment

    return suite_environment(job.device, job.threads)


if __name__ == '__main__':
    end_with_parent()
    sys.exit(run_tool(main))
