"""The search as a loop of a runner."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size, is_main_process
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
from ...search.results import Candidate, Evaluation, Outcome
from ...search.session import SearchOptions, SearchSession
from ...search.split import split_for_search
from ..search_pictures import draw_samples
from .first_rank import FirstRank
from .interrupt import finish_on_interrupt
from .scoring import Scorer

__all__ = ['EvaluationsFailed', 'SparsitySearchLoop']

FAILURES_IN_A_ROW = 3


class EvaluationsFailed(RuntimeError):
    """So many evaluations failed one after the other that the next ones would, too."""


@LOOPS.register_module()
class SparsitySearchLoop(TestLoop):
    """Searches the sparsity of every site of the model's backbone, in the place of the test loop.

    Candidates are scored on a part of the training set (see :mod:`sparsevit_mm.search.split`); the dataloader and
    the evaluator that the runner hands over, which hold the reported set, are left alone. Under a launcher all
    ranks score a candidate together; the first one asks, measures and tells.

    Any number of processes on any machines may work at one study: started by the same command on a ``storage`` that all
    of them reach. In the work dir it leaves the study where there is no other storage, ``report.html`` and
    ``report.md`` with their pictures and tables, and ``best_config.py`` (without a budget a config for every setting of
    the front), which are written again whenever something better is found.

    Args:
        runner: The runner, with the weights to search on.
        dataloader: Not used; the reported set.
        evaluator: Not used; that of the reported set.
        fp16: Whether to score under autocast to half precision.
        **options: The rest:

            - ``budget``: the most that a setting may cost, a fraction of dense such as .6, or ``'30ms'``,
              ``'60G'``; None searches the whole front.
            - ``budget_metric``: what is counted, ``'latency'`` by a table of the device, or ``'macs'``.
            - ``trials``: candidates in all, those of other processes and of a resumed study included.
            - ``search_images``: training images to score on, None for half of them, 500 at most.
            - ``rungs``: fractions or numbers of images after which weak candidates are given up.
            - ``metric``: name among what the evaluator gives, None for its primary one.
            - ``higher_is_better``: direction of the metric, None to tell it by its name.
            - ``choices``: sparsities that a site may have.
            - ``shape``: height and width in pixels that the cost is meant for, None for those of the first image.
            - ``batch``, ``dtype``, ``device``: of the latency; the device is the model's if it is None.
            - ``latency_table``: file of a table of the device, None to measure one; ``foreign``: whether it may be of
              another device than this one.
            - ``whole_model``: whether the latency is that of the whole model.
            - ``latency_rounds``: values that each measured latency is the median of, None for 10, or for a table fewer
              where they would take more than some minutes.
            - ``seed``: of the search and of the choice of images.
            - ``initial``: candidates that are spread over the space before what is known decides.
            - ``storage``: URL of the database, None for ``study.sqlite3`` in the work dir.
            - ``study_name``: name of the study in the database.
            - ``heartbeat``, ``grace``: seconds between signs of life, and of silence until others take up what a
              process was at.
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
        fp16: bool = False,
        **options: Any,
    ) -> None:
        known = SearchOptions.__dataclass_fields__
        unknown = [name for name in options if name not in known]
        if unknown or 'budget' not in options:
            what = f'has no option {unknown[0]!r}' if unknown else 'needs a budget'
            raise ValueError(f'SparsitySearchLoop {what}; it takes fp16, {", ".join(known)}.')
        self.options = SearchOptions(**options)
        self.session: SearchSession | None = None  # on the first rank
        self.outcome: Outcome | None = None
        self._on_main = FirstRank()
        self.split = self._on_main(
            lambda: split_for_search(
                runner.cfg,
                images=self.options.search_images,
                seed=self.options.seed,
                folder=runner.work_dir,
                rungs=self.options.rungs,
            )
        )
        super().__init__(runner, self.split.dataloader, self.split.evaluator, fp16)

    def run(self) -> dict[str, float]:
        """Searches until the candidates are tried, and writes the files.

        Ctrl-C ends it after the candidate that it is at; a second one at once.

        Returns:
            The metric and the cost of the best setting within the budget, empty if there is none.

        Raises:
            ValueError: If the budget cannot be reached, or the storage cannot be used or holds another study.
            EvaluationsFailed: If three evaluations in a row failed.
        """
        backbone = find_sparse_backbone(_unwrap(self.runner.model))
        before = backbone.sparsity
        live = None if is_main_process() else False
        with SearchProgress(self.options.trials, live=live) as progress, finish_on_interrupt() as interrupted:
            self._on_main(lambda: self._open(backbone, progress))
            try:
                self._search(backbone, progress, interrupted)
                self._on_main(lambda: self._finish(backbone, progress))
            except BaseException:
                self._close(keep_error=True)
                raise
            finally:
                backbone.sparsity = before
            self._close()
        return self._on_main(self._found)

    def _close(self, keep_error: bool = False) -> None:
        """Writes the files and leaves the study; an error that led here must not be hidden by another one."""
        if self.session is None:
            return
        try:
            self.outcome = self.session.close()
        except Exception as error:
            if keep_error:
                print_log(f'the report could not be written: {error}', logger='current', level=logging.WARNING)
            elif isinstance(error, OSError):
                raise ValueError(
                    f'the results cannot be written to {self.session.folder}: {error}. They are in the study; make '
                    f'room there, or see to its rights, and start again with --resume.'
                ) from error
            else:
                raise

    def _found(self) -> dict[str, float]:
        best = self.outcome.best
        return {self.outcome.metric or 'accuracy': best.accuracy, 'cost': best.cost} if best else {}

    def _open(self, backbone: nn.Module, progress: SearchProgress) -> None:
        model = _unwrap(self.runner.model)
        self.session = SearchSession(
            self.runner.cfg,
            model,
            backbone,
            self.split,
            self.options,
            tuple(self.options.shape or self._image_shape(model)),
            self.runner.work_dir,
            on_progress=progress.measured,
            on_wait=progress.wait,
        )
        progress.begin(self.session.study.outcome())
        progress.note(self.session.describe())
        if doubt := self.session.doubt():
            print_log(doubt, logger='current', level=logging.WARNING)

    def _image_shape(self, model: nn.Module) -> tuple[int, int]:
        """Height and width of the first search image as the backbone sees it."""
        from mmengine.dataset import pseudo_collate

        data = pseudo_collate([self.dataloader.dataset[0]])
        inputs = model.data_preprocessor(data, False)['inputs']
        images = inputs['imgs'] if isinstance(inputs, Mapping) else inputs
        return tuple(images[0].shape[-2:])

    def _search(self, backbone: nn.Module, progress: SearchProgress, interrupted: Callable[[], bool]) -> None:
        """Asks, scores and tells until nothing is left to ask; the study is with the first rank."""
        self._failures = 0
        scorer = Scorer(self, self.split)
        while not self._on_main(interrupted):
            candidate, others = self._on_main(lambda: (self.session.study.ask(wait=False), self.session.study.others))
            if candidate is not None:
                self._try(backbone, candidate, scorer, progress)
            elif others:
                progress.wait(f'waiting for {others} candidates of other processes')
                time.sleep(self._on_main(lambda: self.session.study.pause))
            else:
                progress.note(self._on_main(lambda: f'search ended: {self.session.study.stopped}'))
                return
        progress.note('search interrupted; the same command with --resume goes on with it')

    def _try(self, backbone: nn.Module, candidate: Candidate, scorer: Scorer, progress: SearchProgress) -> None:
        backbone.sparsity = candidate.sparsity
        start, metrics = time.perf_counter(), None
        try:
            with closing(scorer.steps()) as steps:
                for images in scorer.images:
                    try:
                        _, scores = next(steps)
                    except Exception as error:
                        self._fail(candidate, error)
                        return
                    if images == scorer.images[-1]:
                        metrics = scores
                    elif self._on_main(partial(self._report, candidate, images, scores)):
                        break
        except KeyboardInterrupt:
            if self.session:
                self.session.study.release(candidate)
                print_log('search interrupted; the same command with --resume goes on with it', logger='current')
            raise
        seconds = time.perf_counter() - start
        self._on_main(lambda: self._tell(candidate, images, metrics, seconds, progress))

    def _report(self, candidate: Candidate, images: int, metrics: dict) -> bool:
        return self.session.study.report(candidate, images, metrics)

    def _tell(
        self, candidate: Candidate, images: int, metrics: dict | None, seconds: float, progress: SearchProgress
    ) -> None:
        evaluation = None if metrics is None else self.session.study.tell(candidate, metrics, seconds)
        if metrics is not None and evaluation is None:
            self._count_failure(candidate, f'{self.session.study.metric} is not a number', None)
            return
        self._failures = 0
        outcome = self.session.study.outcome()
        progress.update(candidate, images if evaluation is None else evaluation, outcome)
        try:
            self._write(evaluation, outcome)
        except OSError as error:  # the result is stored; a full disk may have room again until the end
            print_log(f'the work dir cannot be written: {error}', logger='current', level=logging.WARNING)

    def _write(self, evaluation: Evaluation | None, outcome: Outcome) -> None:
        self.session.refresh(outcome)
        if evaluation is not None:
            values = {'search/accuracy': evaluation.accuracy, 'search/cost': evaluation.cost}
            self.runner.visualizer.add_scalars(values, step=len(outcome.evaluations))

    def _finish(self, backbone: nn.Module, progress: SearchProgress) -> None:
        """Measures what is compared and draws what is computed; a report without them is better than none."""
        try:
            if self.session.measurable:
                progress.note('measuring dense, uniform and found for the report')
                self.session.measure(backbone)
            if (shown := self.session.shown()) is not None:
                folder = Path(self.runner.work_dir, 'samples')
                model = _unwrap(self.runner.model)
                self.session.samples = draw_samples(model, backbone, self.dataloader.dataset, shown, folder)
        except (ValueError, RuntimeError, OSError) as error:
            print_log(f'the report is without measured latencies or pictures: {error}', 'current', logging.WARNING)

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
            raise EvaluationsFailed(f'{self._failures} evaluations in a row failed, the last one: {reason}') from error


def _unwrap(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model
