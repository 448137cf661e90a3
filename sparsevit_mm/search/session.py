"""One search in one work dir: the study of a model, and the files that come of it."""

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.config import Config

from ..sparsity import DEFAULT_CHOICES
from .best_config import found_config, user_config, write_inheriting_config
from .budget import Budget, format_cost
from .costs import COST_MODELS
from .report import write_report
from .results import Candidate, Evaluation, Outcome
from .split import SearchSplit
from .storage import jsonable, sqlite_url
from .study import SparsityStudy

if TYPE_CHECKING:
    from torch import nn

__all__ = ['SearchOptions', 'SearchSession']

WIDE_SPREAD = 0.1  # of latencies, relative
REPORT_INTERVAL = 10.0  # seconds between two reports while the search runs


@dataclass(frozen=True)
class SearchOptions:
    """What a user decides about a search; see :class:`sparsevit_mm.engine.loops.SparsitySearchLoop`.

    Raises:
        ValueError: If the budget or what it counts cannot be read.
    """

    budget: float | str | Budget | None
    budget_metric: str = 'latency'
    trials: int | None = 100
    metric: str | None = None
    higher_is_better: bool | None = None
    choices: Sequence[float] = DEFAULT_CHOICES
    shape: Sequence[int] | None = None
    batch: int = 1
    dtype: str = 'float32'
    device: str | None = None
    seed: int = 0
    population: int | None = None
    storage: str | None = None
    study_name: str = 'sparsity'
    resume: bool = False
    config: str | None = None
    cfg_options: Mapping[str, Any] | None = None
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if self.budget_metric not in COST_MODELS:
            raise ValueError(f'budget_metric must be one of {", ".join(COST_MODELS)}, got {self.budget_metric!r}.')
        if self.budget is not None:
            budget = Budget.parse(self.budget, COST_MODELS[self.budget_metric].unit)
            object.__setattr__(self, 'budget', budget)


class SearchSession:
    """Opens the study of a model and writes what it finds.

    Args:
        cfg: The whole config of the run.
        model: The model with the weights to search on.
        backbone: Its sparse backbone.
        split: The images that candidates are scored on.
        options: What the user decided.
        shape: Height and width in pixels that the cost is meant for.
        folder: The work dir.

    Raises:
        ValueError: If the budget cannot be reached, or the storage cannot be used or holds another study.
    """

    def __init__(
        self,
        cfg: Config,
        model: 'nn.Module',
        backbone: 'nn.Module',
        split: SearchSplit,
        options: SearchOptions,
        shape: tuple[int, int],
        folder: str | Path,
    ) -> None:
        self.cfg, self.split, self.options, self.folder = cfg, split, options, Path(folder)
        self._written: Evaluation | None = None
        self._written_at = -math.inf
        space = backbone.sparsity_space(options.choices)
        conditions = {}
        if options.budget_metric == 'latency':
            device = options.device or next(backbone.parameters()).device.type
            conditions = {'batch': options.batch, 'dtype': options.dtype, 'device': device}
        self.study = SparsityStudy(
            space,
            COST_MODELS[options.budget_metric](backbone, shape, choices=space.choices, **conditions),
            options.budget,
            storage=options.storage or sqlite_url(self.folder / 'study.sqlite3'),
            resume=options.resume,
            trials=options.trials,
            seed=options.seed,
            metric=options.metric,
            higher_is_better=options.higher_is_better,
            population=options.population,
            fingerprint={'model': _identity(cfg.get('model')), 'weights': _digest(model), 'data': split.fingerprint},
            name=options.study_name,
        )

    def describe(self) -> str:
        """What is about to be done, in a line."""
        study, unit = self.study, self.study.cost.unit
        dense, least = (format_cost(study.calibration[key], unit) for key in ('dense', 'least'))
        budget = f', budget {format_cost(study.limit, unit)}' if study.budget else ''
        return (
            f'search over {len(study.space):,} settings, scored on {self.split.description}; {study.cost.name}: dense '
            f'{dense}, least {least}{budget}'
        )

    def doubt(self) -> str | None:
        """Why the latencies are not to be trusted much, None where they are."""
        spread = self.study.calibration.get('spread', 0.0)
        if spread < WIDE_SPREAD:
            return None
        return (
            f'latencies vary widely here (quartiles {spread:.0%} apart): is the machine busy? What is measured near '
            f'the budget may be over it. Free the machine, use fewer threads (OMP_NUM_THREADS), or count MACs.'
        )

    def tell(self, candidate: Candidate, metrics: Mapping[str, Any], seconds: float) -> Evaluation | None:
        """Stores a result, and writes the files anew now and then after the best one has changed."""
        evaluation = self.study.tell(candidate, metrics, seconds)
        outcome = self.study.outcome()
        if outcome.best != self._written and time.monotonic() - self._written_at > REPORT_INTERVAL:
            self.write()
        return evaluation

    def write(self) -> Outcome:
        """Writes all files from the study as it stands."""
        outcome = self.study.outcome()
        self._written, self._written_at = outcome.best, time.monotonic()
        write_report(outcome, self.folder, self._facts(), self._title())
        if outcome.best is not None:
            self._write_best_config(outcome, outcome.best)
        return outcome

    def close(self) -> Outcome:
        """Writes all files and lets others at the study."""
        try:
            return self.write()
        finally:
            self.study.close()

    def _base(self) -> str | None:
        return self.options.config or self.cfg.filename

    def _title(self) -> str:
        return Path(str(self._base() or self.folder)).stem

    def _facts(self) -> dict[str, str]:
        """What the report says about how the numbers came about."""
        study = self.study
        conditions = ', '.join(f'{key} {value}' for key, value in study.cost.conditions().items())
        facts = {
            'Config': str(self._base()),
            'Checkpoint': str(self.options.checkpoint or 'the weights of the runner'),
            'Scored on': self.split.description,
            'Cost counted': f'{study.cost.name} of the backbone; {conditions}',
            'Seed': str(self.options.seed),
            'Study': f'{study.name} in {study.storage_url}',
        }
        for name, record in study.calibration.get('records', {}).items():
            spread = (record['q3'] - record['q1']) / record['median']
            runs = f'{record["runs"]} interleaved rounds, torch {record["environment"]["torch"]}'
            facts[f'Latency {name}'] = f'median {record["median"] * 1e3:.4g} ms, quartiles {spread:.1%} apart, {runs}'
        return facts | ({'Warning': doubt} if (doubt := self.doubt()) else {})

    def _write_best_config(self, outcome: Outcome, best: Evaluation) -> None:
        path, base, checkpoint = self.folder / 'best_config.py', self._base(), self.options.checkpoint
        dense = f', dense {outcome.dense.accuracy:.4g}' if outcome.dense else ''
        header = (
            f'Found by tools/search_sparsity.py: {outcome.metric or "accuracy"} {best.accuracy:.4g} on the search '
            f'images{dense}.\n\n'
            f'{self.study.cost.name} of the backbone: {format_cost(best.cost, outcome.unit)}, '
            f'{best.cost / outcome.dense_cost:.3f} of dense.\n'
            f'Sites: {", ".join(outcome.sites)}.\n\n'
            f'Test:     python tools/test.py {path} {checkpoint or "CHECKPOINT"}\n'
            f'Finetune: python tools/train.py {path}'
        )
        write_inheriting_config(found_config(self._user_config(), best.sparsity, checkpoint), base, path, header)

    def _user_config(self) -> Config:
        """The config as the user wrote it, without what a tool set for this run."""
        from ..config import load_config

        if self.options.config:
            return load_config(self.options.config, self.options.cfg_options)
        return user_config(self.cfg)


def _identity(model: Any) -> Any:
    """A model config without what a search changes or a checkpoint supersedes."""
    if isinstance(model, Mapping):
        return {k: _identity(v) for k, v in model.items() if k not in ('sparsity', 'init_cfg', 'pretrained')}
    if isinstance(model, list | tuple):
        return [_identity(value) for value in model]
    return jsonable(model)


def _digest(model: 'nn.Module') -> str:
    """A hash of all weights: two checkpoints of one name are told apart, copies of one file are not."""
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, torch.Tensor):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
