"""Signs of life: what a process is at is taken up by others only after it has been silent for a while."""

import logging
import threading
from typing import TYPE_CHECKING

from mmengine.logging import print_log

from .database import reason_of

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

__all__ = ['Heartbeat']


class Heartbeat:
    """Tells a storage at regular times that this process is at work on its trials.

    A thread does it beside the evaluation. It outlives a storage that is away for a while; whether trials are
    given up meanwhile is decided by the clock of the storage. In storages without heartbeats nothing happens.

    Args:
        storage: Where the trials are; its heartbeat interval is used.
    """

    def __init__(self, storage: 'BaseStorage') -> None:
        self.interval: int | None = getattr(storage, 'get_heartbeat_interval', lambda: None)()
        self._storage = storage
        self._trials: set[int] = set()
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False

    def start(self, trial_id: int) -> None:
        """Beats for a trial from now on; the first time before it returns.

        Args:
            trial_id: Optuna's id of the trial, which is not its number.

        Raises:
            sqlalchemy.exc.OperationalError: If the storage cannot be reached.
            optuna.exceptions.StorageInternalError: Likewise.
        """
        if self.interval is None:
            return
        self._storage.record_heartbeat(trial_id)
        with self._lock:
            self._trials.add(trial_id)
            if self._thread is None:
                self._end = threading.Event()
                self._thread = threading.Thread(target=self._beat, args=(self._end,), name='heartbeat', daemon=True)
                self._thread.start()

    def stop(self, trial_id: int) -> None:
        """Beats for a trial no longer."""
        with self._lock:
            self._trials.discard(trial_id)

    def close(self) -> None:
        """Beats no longer at all, until another trial is started."""
        with self._lock:
            self._trials.clear()
            self._end.set()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(self.interval)

    def _beat(self, end: threading.Event) -> None:
        while not end.wait(self.interval):
            with self._lock:
                trials = sorted(self._trials)
            for trial_id in trials:
                self._record(trial_id)

    def _record(self, trial_id: int) -> None:
        """One beat; what goes wrong is said once, and tried again with the next one."""
        try:
            self._storage.record_heartbeat(trial_id)
        except Exception as error:
            if not self._failing:
                print_log(
                    f'search: the storage does not answer: {reason_of(error)}; another '
                    f'process will take up what this one is at if it stays away for long',
                    logger='current',
                    level=logging.WARNING,
                )
            self._failing = True
        else:
            self._failing = False
