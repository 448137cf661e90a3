"""How far a search is: a live line on a terminal, log lines elsewhere."""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from mmengine.logging import MMLogger, print_log

from .budget import format_cost
from .report import format_sparsity
from .results import Candidate, Evaluation, Outcome

__all__ = ['SearchProgress']

SELDOM = 30.0  # seconds between two log lines of the same kind


class SearchProgress:
    """Shows candidates tried, settings within the budget, the best so far and the time left.

    Args:
        trials: Number of candidates in all, None for no end.
        live: Whether to draw on the terminal, None to find out whether there is one.
    """

    def __init__(self, trials: int | None, live: bool | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console()
        self.live = console.is_terminal if live is None else live
        self.trials = trials
        self._before: int | None = None
        self._said: dict[str, float] = {}
        self._bar = None
        if self.live:
            columns = (TextColumn('{task.fields[what]}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, TextColumn('{task.description}'), console=console)
            self._task = self._bar.add_task('', total=trials, what='search')

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

    def wait(self, text: str) -> None:
        """Says what is waited for; not again and again in the log."""
        if self._bar is not None:
            self._bar.update(self._task, description=text)
        kind = re.sub(r'[\d.]+', '', text)
        if time.monotonic() - self._said.get(kind, -SELDOM) >= SELDOM:
            self._said[kind] = time.monotonic()
            print_log(text, logger='current')

    def measured(self, done: int, total: int) -> None:
        """Takes note of a part of the measurement of latencies."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, what='latency table')
        else:
            self.wait(f'latency table: {done} of {total} measurements')

    def begin(self, outcome: Outcome) -> None:
        """Takes note of what there is when candidates begin to be tried, the time from then on."""
        self._before, self._start = _tried(outcome), time.monotonic()
        if self._bar is not None:
            self._bar.reset(self._task, total=self.trials, completed=self._before, what='search')

    def update(self, candidate: Candidate, result: Evaluation | int, outcome: Outcome) -> None:
        """Takes note of a candidate that is done.

        Args:
            candidate: Which.
            result: What it scored, or after how many images it was given up.
            outcome: The study.
        """
        tried, best = _tried(outcome), outcome.best
        within = '' if outcome.feasible_size is None else f' of {outcome.feasible_size:,} within the budget'
        text = f'tried {tried}{within}, best {_short(best, outcome)}, left {self._left(tried)}'
        if self._bar is not None:
            self._bar.update(self._task, completed=tried, description=text)
        total = f'/{self.trials}' if self.trials else ''
        scored = f'given up after {result} images' if isinstance(result, int) else _short(result, outcome)
        print_log(f'search {tried}{total}: {format_sparsity(candidate.sparsity)} {scored}; {text}', logger='current')

    def _left(self, tried: int) -> str:
        fresh = tried - (self._before or 0)
        if not self.trials or fresh < 1:
            return 'unknown'
        seconds = (time.monotonic() - self._start) / fresh * max(0, self.trials - tried)
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f'{hours}:{minutes:02}:{seconds:02}'


def _tried(outcome: Outcome) -> int:
    return len(outcome.evaluations) + outcome.stopped_early


def _short(evaluation: Evaluation | None, outcome: Outcome) -> str:
    if evaluation is None:
        return 'none yet'
    cost = format_cost(evaluation.cost, outcome.unit)
    return f'{outcome.metric_name} {evaluation.accuracy:.4g} at {cost} ({outcome.share(evaluation.cost):.3f} of dense)'


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
