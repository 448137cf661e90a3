"""The search as a loop of a runner."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, TestLoop
from torch import nn
from torch.utils.data import DataLoader

from ...models import find_sparse_backbone
from ...registry import LOOPS
from ...search.progress import SearchProgress
from ...search.report import format_sparsity
from ...search.results import Candidate, Outcome
from ...search.session import SearchOptions, SearchSession
from ...search.split import split_for_search

__all__ = ['SparsitySearchLoop']

T = TypeVar('T')
FAILURES_IN_A_ROW = 3


@LOOPS.register_module()
class SparsitySearchLoop(TestLoop):
    """Searches the sparsity of every site of the model's backbone, in the place of the test loop.

    Candidates are scored on a part of the training set (see :mod:`sparsevit_mm.search.split`); the dataloader and
    the evaluator that the runner hands over, which hold the reported set, are left alone. Under a launcher all
    ranks score a candidate together; the first one asks, measures and tells.

    In the work dir it leaves ``study.sqlite3``, ``report.md``, ``pareto.png``, ``pareto.csv``, ``candidates.csv``
    and ``best_config.py``, which are written again whenever something better is found.

    Args:
        runner: The runner, with the weights to search on.
        dataloader: Not used; the reported set.
        evaluator: Not used; that of the reported set.
        search_images: Number of training images to score on, None for half of them, 500 at most.
        fp16: Whether to score under autocast to half precision.
        **options: The rest:

            - ``budget``: the most that a setting may cost, a fraction of dense such as .6, or ``'30ms'``,
              ``'60G'``; None searches the whole front.
            - ``budget_metric``: what is counted, ``'latency'`` or ``'macs'`` of the backbone.
            - ``trials``: evaluations in all, those of a resumed study included.
            - ``metric``: name among what the evaluator gives, None for its primary one.
            - ``higher_is_better``: direction of the metric, None to tell it by its name.
            - ``choices``: sparsities that a site may have.
            - ``shape``: height and width in pixels that the cost is meant for, None for those of the first image.
            - ``batch``, ``dtype``, ``device``: of the latency; the device is the model's if it is None.
            - ``seed``: of the search and of the choice of images.
            - ``population``: evaluations in a generation, None to choose by the number of trials.
            - ``storage``: URL of the database, None for ``study.sqlite3`` in the work dir.
            - ``study_name``: name of the study in the database.
            - ``resume``: whether to go on with the study that is there.
            - ``config``, ``cfg_options``: the file that ``best_config.py`` inherits, None for the runner's, and
              what the command line changed in it.
            - ``checkpoint``: the file of the weights, to be named in the results.

    Raises:
        ValueError: If an option is unknown or out of range, or the config does not allow a search.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        evaluator: Evaluator | dict | list,
        *,
        search_images: int | None = None,
        fp16: bool = False,
        **options: Any,
    ) -> None:
        known = SearchOptions.__dataclass_fields__
        unknown = [name for name in options if name not in known]
        if unknown or 'budget' not in options:
            what = f'has no option {unknown[0]!r}' if unknown else 'needs a budget'
            raise ValueError(f'SparsitySearchLoop {what}; it takes search_images, fp16, {", ".join(known)}.')
        self.options = SearchOptions(**options)
        self.session: SearchSession | None = None  # on the first rank
        self.outcome: Outcome | None = None
        self.split = _on_main(
            lambda: split_for_search(runner.cfg, images=search_images, seed=self.options.seed, folder=runner.work_dir)
        )
        super().__init__(runner, self.split.dataloader, self.split.evaluator, fp16)

    def run(self) -> dict[str, float]:
        """Searches until the evaluations are made, and writes the files.

        Returns:
            The metric and the cost of the best setting within the budget, empty if there is none.

        Raises:
            ValueError: If the budget cannot be reached, or the storage cannot be used or holds another study.
            RuntimeError: If three evaluations in a row failed.
        """
        backbone = find_sparse_backbone(_unwrap(self.runner.model))
        before = backbone.sparsity
        _on_main(lambda: self._open(backbone))
        try:
            self._search(backbone)
        finally:
            backbone.sparsity = before
            if self.session:
                self.outcome = self.session.close()
        return _on_main(self._found)

    def _found(self) -> dict[str, float]:
        best = self.outcome.best
        return {self.outcome.metric or 'accuracy': best.accuracy, 'cost': best.cost} if best else {}

    def _open(self, backbone: nn.Module) -> None:
        model = _unwrap(self.runner.model)
        shape = tuple(self.options.shape or self._image_shape(model))
        self.session = SearchSession(
            self.runner.cfg, model, backbone, self.split, self.options, shape, self.runner.work_dir
        )
        print_log(self.session.describe(), logger='current')
        if doubt := self.session.doubt():
            print_log(doubt, logger='current', level=logging.WARNING)

    def _image_shape(self, model: nn.Module) -> tuple[int, int]:
        """Height and width of the first search image as the backbone sees it."""
        from mmengine.dataset import pseudo_collate

        data = pseudo_collate([self.dataloader.dataset[0]])
        inputs = model.data_preprocessor(data, False)['inputs']
        images = inputs['imgs'] if isinstance(inputs, Mapping) else inputs
        return tuple(images[0].shape[-2:])

    def _search(self, backbone: nn.Module) -> None:
        """Asks, scores and tells until nothing is left to ask; the study is with the first rank."""
        self._failures = 0
        done = _on_main(lambda: len(self.session.study.outcome().evaluations))
        live = None if is_main_process() else False
        with SearchProgress(self.options.trials, done, live=live) as progress:
            if _on_main(lambda: self.session.study.wants_dense):
                progress.note('scoring the dense backbone for reference')
                result = self._score(backbone, 0.0)
                _on_main(lambda: self.session.study.tell_dense(*result))
            while (candidate := _on_main(lambda: self.session.study.ask())) is not None:
                self._try(backbone, candidate, progress)
            progress.note(_on_main(lambda: f'search ended: {self.session.study.stopped}'))

    def _try(self, backbone: nn.Module, candidate: Candidate, progress: SearchProgress) -> None:
        try:
            result = self._score(backbone, candidate.sparsity)
        except KeyboardInterrupt:
            if self.session:
                self.session.study.release(candidate)
                print_log('search interrupted; the same command with --resume goes on with it', logger='current')
            raise
        except Exception as error:
            self._fail(candidate, error)
        else:
            _on_main(lambda: self._tell(candidate, *result, progress))

    def _score(self, backbone: nn.Module, sparsity: float | Sequence[float]) -> tuple[dict, float]:
        """Metrics at a sparsity, and the seconds that they took."""
        backbone.sparsity = sparsity
        start = time.perf_counter()
        metrics = super().run()
        return metrics, time.perf_counter() - start

    def _tell(self, candidate: Candidate, metrics: dict, seconds: float, progress: SearchProgress) -> None:
        evaluation = self.session.tell(candidate, metrics, seconds)
        if evaluation is None:
            self._count_failure(candidate, f'{self.session.study.metric} is not a number', None)
            return
        self._failures = 0
        outcome = self.session.study.outcome()
        progress.update(evaluation, outcome)
        values = {'search/accuracy': evaluation.accuracy, 'search/cost': evaluation.cost}
        self.runner.visualizer.add_scalars(values, step=len(outcome.evaluations))

    def _fail(self, candidate: Candidate, error: Exception) -> None:
        """Goes on after a failed evaluation.

        With several ranks the others cannot know of it, so there it ends the run; a resume takes the trial up.
        """
        if get_world_size() > 1:
            raise error
        reason = f'{type(error).__name__}: {error}'
        self.session.study.fail(candidate, reason)
        self._count_failure(candidate, reason, error)

    def _count_failure(self, candidate: Candidate, reason: str, error: Exception | None) -> None:
        print_log(
            f'search: {format_sparsity(candidate.sparsity)} failed: {reason}', logger='current', level=logging.WARNING
        )
        self._failures += 1
        if self._failures == FAILURES_IN_A_ROW:
            raise RuntimeError(f'{self._failures} evaluations in a row failed, the last one: {reason}') from error


def _on_main(call: Callable[[], T]) -> T:
    """Calls on the first rank and gives every rank the result, or the error."""
    if get_world_size() == 1:
        return call()
    result: list[Any] = [None]
    if is_main_process():
        try:
            result = [(call(), None)]
        except Exception as error:
            result = [(None, error)]
    broadcast_object_list(result)
    value, error = result[0]
    if error is not None:
        raise error
    return value


def _unwrap(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model
