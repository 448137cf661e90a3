"""Pictures of what is skipped, during validation and test."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from ...models import find_sparse_backbone
from ...registry import HOOKS
from ...visualization import InferenceRecord, ResultPainter, record_inference, save_picture

__all__ = ['SparsityVisualizationHook']


@HOOKS.register_module()
class SparsityVisualizationHook(Hook):
    """Draws what was computed of some images beside their labels and predictions.

    A picture holds the image, its labels where the test pipeline loads them, the prediction, how many blocks computed
    each place, and a panel a site: kept windows or tokens, what is in package tokens, and the numbers. It goes to every
    backend of the runner's visualizer, as ``val_sparsity_NAME`` or ``test_sparsity_NAME`` at the iteration of the run.

    Predictions and labels are drawn by the visualizer of the run, or the stock one of the package where that draws
    none. Images that are not drawn are not touched: selections are recorded for those that are, and no picture
    reaches results, metrics or random numbers. In several processes the first one draws, from its share of the images.
    What cannot be drawn is said once and left out.

    Args:
        draw: Whether to draw at all.
        interval: Every so many images one is drawn, from the first on.
        max_images: Most images of one validation or test; None for no limit.
        score_thr: Objects with no higher score are left out.
        show: Open a window for each picture; backends then get none.
        wait_time: Seconds that a window stays, 0 for until a key is pressed.
        test_out_dir: Folder below the one of the run for the pictures of a test; backends then get none of them.
        backend_args: How image files are read, as for mmengine's file backends.

    Raises:
        ValueError: If an option is not valid, and, when a run begins, if the model has no sparse backbone.
    """

    def __init__(
        self,
        draw: bool = True,
        interval: int = 50,
        max_images: int | None = 10,
        score_thr: float = 0.3,
        show: bool = False,
        wait_time: float = 0.0,
        test_out_dir: str | None = None,
        backend_args: dict | None = None,
    ) -> None:
        _check_count('interval', interval)
        if max_images is not None:
            _check_count('max_images', max_images)
        if not 0 <= score_thr <= 1:
            raise ValueError(f'score_thr must be in [0, 1], the least score of an object, got {score_thr!r}.')
        if wait_time < 0:
            raise ValueError(f'wait_time must be 0 seconds or more, got {wait_time!r}.')
        self.draw, self.interval, self.max_images = draw, interval, max_images
        self.show, self.wait_time, self.test_out_dir = show, wait_time, test_out_dir
        self._painter = ResultPainter(score_thr, self._warn, backend_args)
        self._recording = ExitStack()
        self._record: InferenceRecord | None = None
        self._warned: set[str] = set()
        self._trained = False
        self._start_over()

    def before_run(self, runner: Runner) -> None:
        """Look whether there is something to draw."""
        find_sparse_backbone(runner.model)

    def before_train(self, runner: Runner) -> None:
        """From here on there is an iteration to tell: a runner that only tests builds its training set for that."""
        self._trained = True

    def before_val_epoch(self, runner: Runner) -> None:
        """Count images from the start."""
        self._start_over()

    def before_test_epoch(self, runner: Runner) -> None:
        """Count images from the start."""
        self._start_over()

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None) -> None:
        """Record what the backbone computes of the batch, if an image of it is to be drawn."""
        self._recording.close()
        self._chosen = self._choose(_batch_size(data_batch)) if self.draw and is_main_process() else []
        if self._chosen:
            self._record = self._recording.enter_context(record_inference(runner.model))

    def before_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None) -> None:
        """Record what the backbone computes of the batch, if an image of it is to be drawn."""
        self.before_val_iter(runner, batch_idx, data_batch)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None, outputs: Any = None
    ) -> None:
        """Draw the images chosen."""
        self._draw(runner, data_batch, outputs, 'val')

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None, outputs: Any = None
    ) -> None:
        """Draw the images chosen."""
        self._draw(runner, data_batch, outputs, 'test')

    def _start_over(self) -> None:
        self._recording.close()
        self._seen = self._drawn = 0
        self._chosen: list[int] = []
        self._names: set[str] = set()

    def _choose(self, batch: int) -> list[int]:
        """Which images of the next batch are to be drawn."""
        chosen = [index for index in range(batch) if (self._seen + index) % self.interval == 0]
        if self.max_images is not None:
            chosen = chosen[: self.max_images - self._drawn]
        self._seen += batch
        self._drawn += len(chosen)
        return chosen

    def _draw(self, runner: Runner, data_batch: Any, outputs: Sequence[BaseDataElement], mode: str) -> None:
        self._recording.close()
        for index in self._chosen:
            try:
                name = self._name(outputs[index], mode)
                picture = self._painter.draw(
                    name, data_batch['inputs'], outputs[index], index, self._record, runner.visualizer
                )
                self._publish(runner, name, picture, mode)
            except Exception as error:  # a picture is no reason for a run to end
                self._warn('picture', f'an image was not drawn: {type(error).__name__}: {error}')
        self._chosen, self._record = [], None

    def _name(self, sample: BaseDataElement, mode: str) -> str:
        """A name of its own for each image of an epoch, the same in every epoch."""
        path = sample.metainfo.get('img_path')
        first = f'{mode}_sparsity_{Path(path).stem if isinstance(path, str) else "image"}'
        name, number = first, 2
        while name in self._names:
            name, number = f'{first}_{number}', number + 1
        self._names.add(name)
        return name

    def _publish(self, runner: Runner, name: str, picture: np.ndarray, mode: str) -> None:
        if self.show:
            runner.visualizer.show(picture, win_name=name, wait_time=self.wait_time)
        if mode == 'test' and self.test_out_dir is not None:
            folder = Path(runner.work_dir, runner.timestamp, self.test_out_dir)
            folder.mkdir(parents=True, exist_ok=True)
            save_picture(picture, folder / f'{name}.png')
        elif not self.show:
            runner.visualizer.add_image(name, picture, step=runner.iter if self._trained else 0)

    def _warn(self, kind: str, message: str) -> None:
        """Say it once in a run."""
        if kind not in self._warned:
            self._warned.add(kind)
            print_log(f'SparsityVisualizationHook: {message}', logger='current', level=logging.WARNING)


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f'{name} must be a positive number of images, got {value!r}.')


def _batch_size(data_batch: Any) -> int:
    """Images in a batch as a loader gives it; none if it is of a form that cannot be drawn."""
    samples = data_batch.get('data_samples') if isinstance(data_batch, Mapping) else None
    if samples and isinstance(samples[0], list | tuple):  # test-time augmentation: a list a version of the images
        samples = samples[0]
    return len(samples) if isinstance(samples, list | tuple) else 0
