"""One test of the model, scored on the first images, then on more, then on all."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.dist import get_world_size
from mmengine.evaluator import Evaluator
from mmengine.runner import TestLoop

from ...search.split import Rung, SearchSplit

__all__ = ['Scorer']


class Scorer:
    """Scores a model on the images of a search, so that the caller may stop after a part of them.

    Each rung of the split has an evaluator of its own, which is given exactly the images of the rung. The last one
    is the loop's, and gives what :meth:`mmengine.runner.TestLoop.run` would. ``images`` holds the numbers of images.

    Args:
        loop: Holds the runner, the dataloader and the evaluator of all images.
        split: Where they come from.

    Raises:
        ValueError: If the data set has another number of images than the split.
    """

    def __init__(self, loop: TestLoop, split: SearchSplit) -> None:
        self._loop = loop
        dataset = loop.dataloader.dataset
        self.images = _numbers(split.rungs, len(dataset))
        self._evaluators = [*(loop.runner.build_evaluator(rung.evaluator) for rung in split.rungs[:-1]), loop.evaluator]
        for evaluator in self._evaluators:
            if hasattr(dataset, 'metainfo'):
                evaluator.dataset_meta = dataset.metainfo

    def steps(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Tests the model once.

        Hooks are called as in a test loop. Whoever stops early closes the iterator, which calls the hooks that end a
        test; with several ranks all have to do so after the same step. Losses that a model gives along are means over
        the batches so far.

        Yields:
            A number of images, and the metrics on exactly these, the first images in the order of the dataloader.
        """
        call_hook = self._loop.runner.call_hook
        self._clear()
        call_hook('before_test')
        call_hook('before_test_epoch')
        self._loop.runner.model.eval()
        metrics = None
        try:
            for images, metrics in self._evaluate():
                if images < self.images[-1]:
                    yield images, metrics
        except GeneratorExit:
            self._end(metrics)
            raise
        except Exception:
            # What hooks did for the test is undone before another candidate: EMA swaps weights. With several ranks
            # the others cannot know, so the error ends the run.
            if get_world_size() == 1:
                self._end(None)
            raise
        finally:
            self._clear()
        self._end(metrics)
        yield self.images[-1], metrics

    def _end(self, metrics: dict[str, float] | None) -> None:
        self._loop.runner.call_hook('after_test_epoch', metrics=metrics)
        self._loop.runner.call_hook('after_test')

    def _evaluate(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Runs the batches, and each evaluator as soon as its images have been seen."""
        share = _Share(self._evaluators, [math.ceil(number / get_world_size()) for number in self.images])
        waiting = list(zip(self.images, self._evaluators))
        for index, batch in enumerate(self._loop.dataloader):
            self._run_batch(share, index, batch)
            while share.complete > len(self.images) - len(waiting) and len(waiting) > 1:
                yield self._metrics(*waiting.pop(0))
        for images, evaluator in waiting:
            yield self._metrics(images, evaluator)

    def _run_batch(self, share: '_Share', index: int, batch: Any) -> None:
        """An iteration of the test loop, whose results all evaluators get."""
        loop = self._loop
        evaluator, loop.evaluator = loop.evaluator, share
        try:
            loop.run_iter(index, batch)
        finally:
            loop.evaluator = evaluator

    def _metrics(self, images: int, evaluator: Evaluator) -> tuple[int, dict[str, float]]:
        metrics = evaluator.evaluate(images)
        if getattr(self._loop, 'test_loss', None):
            from mmengine.runner.loops import _parse_losses

            metrics.update(_parse_losses(self._loop.test_loss, 'test'))
        return images, metrics

    def _clear(self) -> None:
        """Forgets the images of a test that was not finished."""
        for evaluator in self._evaluators:
            for metric in evaluator.metrics:
                metric.results.clear()
        getattr(self._loop, 'test_loss', {}).clear()


class _Share:
    """Stands in for the evaluator of a loop and hands several evaluators the first images of each.

    Of ``n`` images in the order of the dataloader, every rank has ``ceil(n / ranks)``, in turns: sample ``j`` of
    rank ``r`` is image ``j * ranks + r``. Evaluators leave out what is beyond ``n`` once they have collected them.

    Args:
        evaluators: They take the first images; the last one takes all.
        quotas: How many of the samples of this rank each takes, ascending.
    """

    def __init__(self, evaluators: Sequence[Evaluator], quotas: Sequence[int]) -> None:
        self._evaluators, self._quotas = evaluators, quotas
        self._seen = 0

    @property
    def complete(self) -> int:
        """How many of the evaluators have seen all of their images."""
        return sum(self._seen >= quota for quota in self._quotas)

    def process(self, data_samples: Sequence, data_batch: Any = None) -> None:
        """Takes a batch, whole or in part, to each evaluator that it belongs to."""
        size = len(data_samples)
        for evaluator, quota in zip(self._evaluators, self._quotas):
            own = quota - self._seen
            if own >= size or evaluator is self._evaluators[-1]:
                evaluator.process(data_samples=data_samples, data_batch=data_batch)
            elif own > 0:
                evaluator.process(data_samples=data_samples[:own], data_batch=_first(data_batch, own, size))
        self._seen += size


def _first(batch: Any, number: int, size: int) -> Any:
    """The first images of a collated batch of ``size``; what is not a list of images stays whole."""
    if isinstance(batch, Mapping):
        return {key: _first(value, number, size) for key, value in batch.items()}
    if isinstance(batch, list | tuple) and len(batch) == size:
        return batch[:number]
    return batch


def _numbers(rungs: Sequence[Rung], total: int) -> tuple[int, ...]:
    """Numbers of images of the rungs; the last one is the length of the data set."""
    expected = rungs[-1].images
    if len(rungs) > 1 and expected != total:
        raise ValueError(
            f'{expected} images were chosen for the search, but the data set has {total}, so which belong to a part of '
            f'them cannot be told. Leave multi-fidelity off, or give search_dataloader and search_evaluator.'
        )
    return (*(rung.images for rung in rungs[:-1]), total)
