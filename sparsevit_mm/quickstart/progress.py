"""What a quickstart shows while a step runs."""

import logging
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ['ShowProgress', 'progress_bar', 'show_search_lines']


class ShowProgress(Hook):
    """Draws the training on a bar, or where there is no terminal in ten lines."""

    def __init__(self, bar: Progress, console: Console) -> None:
        self._bar, self._console = bar, console

    def before_train(self, runner: Runner) -> None:
        self._task = self._bar.add_task('training', total=runner.max_iters, completed=runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        done, total = runner.iter + 1, runner.max_iters
        text = f'loss {runner.message_hub.get_scalar("train/loss").mean(20):.3f}'
        self._bar.update(self._task, completed=done, description=f'training, {text}')
        if not self._console.is_terminal and done * 10 // total > (done - 1) * 10 // total:
            self._console.print(f'             {done} of {total} steps, {text}')


def progress_bar(console: Console) -> Progress:
    """A bar with counts and times, which is gone when the step is done."""
    return Progress(
        TextColumn('             {task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn('left'),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def show_search_lines(logger: logging.Logger) -> None:
    """Lets a quiet logger say what the search says, and nothing of the evaluations in between."""
    logger.setLevel(logging.INFO)
    for handler in logger.handlers:
        handler.setLevel(logging.INFO)
        handler.addFilter(
            lambda record: record.levelno >= logging.ERROR or record.getMessage().startswith(('search', 'scoring'))
        )
