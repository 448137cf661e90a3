"""Python programs in processes of their own, forked from one that has imported already what takes long.

A tool that is started so and not by ``python tool.py`` spares some four seconds, and is killed, waited for and read
just the same.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import warnings
from collections.abc import Mapping
from multiprocessing.context import BaseContext
from pathlib import Path

from scripts import ROOT

__all__ = ['Program', 'forking']

# Imported once in a process that all others are forked from, where the system can; the rest is theirs to import.
PRELOADED = (
    'torch',
    'mmengine.runner',
    'mmcv.ops',
    'mmseg.models',
    'mmseg.datasets',
    'mmseg.evaluation',
    'optuna.samplers',
    'sparsevit_mm.models',
    'sparsevit_mm.engine.hooks',
    'sparsevit_mm.quickstart',
)


def forking() -> BaseContext:
    """What starts processes; the first use in a test process decides what is imported beforehand."""
    how = next(how for how in ('forkserver', 'spawn') if how in multiprocessing.get_all_start_methods())
    context = multiprocessing.get_context(how)
    if how == 'forkserver':
        context.set_forkserver_preload(list(PRELOADED))
    return context


class Program:
    """A script that runs, used as :class:`subprocess.Popen` is.

    Args:
        script: The file.
        words: What it is called with.
        env: Variables besides this process's own. ``PYTHONPATH`` goes before its own paths.
        cwd: Folder that it runs in.
        output: File that its output and errors are added to.
    """

    def __init__(
        self, script: Path, *words: object, output: Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT
    ) -> None:
        self.output = output
        variables = {**os.environ, 'OMP_NUM_THREADS': '1', **(env or {})}
        self._process = forking().Process(target=_run, args=(script, list(map(str, words)), variables, cwd, output))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, or minus the signal that ended it; none while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once it has ended.

        Raises:
            subprocess.TimeoutExpired: If it has not after so many seconds.
        """
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing happens to one that has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self.send_signal(signal.SIGKILL)

    def said(self) -> str:
        """All that has come out of it."""
        return self.output.read_text()


def _run(script: Path, words: list[str], variables: dict[str, str], cwd: Path, output: Path) -> None:
    with open(output, 'ab') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    import torch

    torch.set_num_threads(int(variables['OMP_NUM_THREADS']))
    warnings.simplefilter('ignore')
    sys.argv[:] = [str(script), *words]
    paths = [path for path in variables.get('PYTHONPATH', '').split(os.pathsep) if path]
    sys.path[:0] = [str(Path(script).parent), *paths]
    runpy.run_path(str(script), run_name='__main__')
