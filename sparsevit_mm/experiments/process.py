"""Processes of runs: started, ended, and asked why they ended."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..processes import ENDS_WITH_PARENT

__all__ = ['FolderLock', 'InUse', 'end', 'end_left_over', 'reason', 'start']

SECONDS_TO_END = 10.0
GROUP = 'group'  # file with the process group of a run's last start


class InUse(ValueError):
    """A folder is in use by another process."""


class FolderLock:
    """Holds a folder for this process and those that it hands the lock to, until the last of them ends.

    The lock is the system's, so none is left behind by a process that was killed.

    Args:
        path: File of the lock.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def take(self, patience: float = 0.0) -> None:
        """Take it.

        Args:
            patience: Seconds that another process may still hold it, such as one whose parent was just killed.

        Raises:
            InUse: If another process has it.
        """
        try:
            import fcntl
        except ImportError:  # Windows has none of these; there two starts at once are the user's to avoid
            return
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if time.monotonic() >= until:
                    self.release()
                    raise InUse(
                        f'{self.path.parent} is in use by another process: wait for its end, or end it.'
                    ) from None
            time.sleep(0.2)

    def release(self) -> None:
        """Let this process go of it."""
        os.close(self.descriptor)


def start(
    command: Sequence[str], *, folder: Path, place: Path, environment: Mapping[str, str], lock: FolderLock
) -> subprocess.Popen:
    """Start the process of a run, in a group of its own.

    Args:
        command: Its words, the path of a file in the folder among them.
        folder: Of the run; all that is said is appended to ``log.txt`` there.
        place: Where it runs.
        environment: Variables beside those of this process.
        lock: Held as long as it runs.
    """
    with (folder / 'log.txt').open('ab') as out:
        process = subprocess.Popen(
            command,
            cwd=place,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock.descriptor,),
            preexec_fn=ENDS_WITH_PARENT,
        )
    (folder / GROUP).write_text(str(process.pid))
    return process


def end_left_over(folder: Path) -> None:
    """End what the last start of a run has left behind, on Linux.

    Workers of a data loader may wait for ever for a process that was killed. They are known by the group that they were
    started in, and by the folder of the run in their command lines.
    """
    try:
        group = int((folder / GROUP).read_text())
    except (FileNotFoundError, ValueError):
        return
    for entry in Path('/proc').glob('[0-9]*'):
        try:
            own = int((entry / 'stat').read_text().rpartition(')')[2].split()[2])
            if own == group and str(folder).encode() in (entry / 'cmdline').read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
        except (OSError, ValueError):  # it has ended by now, or is not ours
            continue


def end(process: subprocess.Popen) -> None:
    """End a process and all of its group, kindly at first."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            break
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def reason(status: int, log: Path) -> str:
    """Why a process ended with a status other than 0: what it said last, in a line."""
    if status < 0:
        return f'killed by signal {-status}' + (', most likely for memory' if status == -signal.SIGKILL else '')
    text = log.read_text(errors='replace')[-20_000:] if log.exists() else ''
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith('error: ')), lines[-1] if lines else '')
    said = re.sub(r'^error: ', '', said)
    return said or f'ended with status {status} and without a word'
