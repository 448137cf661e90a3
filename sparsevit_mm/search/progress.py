"""How far a search is: a live line on a terminal, log lines elsewhere."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from mmengine.logging import MMLogger, print_log

from .budget import format_cost
from .report import format_sparsity
from .results import Evaluation, Outcome

__all__ = ['SearchProgress']


class SearchProgress:
    """Shows evaluations done, the best so far and the time left.

    Args:
        trials: Number of evaluations in all, None for no end.
        done: Number of those made before.
        live: Whether to draw on the terminal, None to find out whether there is one.
    """

    def __init__(self, trials: int | None, done: int = 0, live: bool | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console()
        self.live = console.is_terminal if live is None else live
        self.trials, self.before = trials, done
        self._bar = None
        if self.live:
            columns = (TextColumn('search'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, TextColumn('{task.description}'), console=console)
            self._task = self._bar.add_task('', total=trials, completed=done)

    def __enter__(self) -> 'SearchProgress':
        self._start = time.monotonic()
        if self._bar is not None:
            self._quiet = _quiet_console()
            self._quiet.__enter__()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._quiet.__exit__(None, None, None)

    def note(self, text: str) -> None:
        """Says what is going on."""
        if self._bar is not None:
            self._bar.update(self._task, description=text)
        print_log(text, logger='current')

    def update(self, evaluation: Evaluation, outcome: Outcome) -> None:
        """Takes note of a finished evaluation."""
        done, best = len(outcome.evaluations), outcome.best
        left = self._left(done)
        text = f'left {left}, best {_short(best, outcome)}'
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=text)
        total = f'/{self.trials}' if self.trials else ''
        sparsity = format_sparsity(evaluation.sparsity)
        print_log(f'search {done}{total}: {sparsity} {_short(evaluation, outcome)}; {text}', logger='current')

    def _left(self, done: int) -> str:
        fresh = done - self.before
        if not self.trials or fresh < 1:
            return 'unknown'
        seconds = (time.monotonic() - self._start) / fresh * (self.trials - done)
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f'{hours}:{minutes:02}:{seconds:02}'


def _short(evaluation: Evaluation | None, outcome: Outcome) -> str:
    if evaluation is None:
        return 'none yet'
    cost = format_cost(evaluation.cost, outcome.unit)
    share = evaluation.cost / outcome.dense_cost
    return f'{outcome.metric_name} {evaluation.accuracy:.4g} at {cost} ({share:.3f} of dense)'


@contextmanager
def _quiet_console() -> Iterator[None]:
    """Keeps the logger's lines off the terminal, where they would tear the live line; its file gets them all."""
    logger = MMLogger.get_current_instance()
    handlers = [h for h in logger.handlers if isinstance(h, logging.StreamHandler) and not hasattr(h, 'baseFilename')]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels):
            handler.setLevel(level)
