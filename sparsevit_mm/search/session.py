"""One search in one work dir: the study of a model, and the files that come of it."""

import hashlib
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.config import Config

from ..sparsity import DEFAULT_CHOICES
from .best_config import user_config
from .budget import Budget, format_cost
from .command_line import words_of
from .costs import COST_MODELS, OF_LATENCY, MacsCost, TableCost
from .costs.table_source import ROUNDS
from .fingerprint import jsonable
from .found_configs import BEST, config_commands, write_configs
from .report import write_report
from .results import Evaluation, Measured, Outcome
from .split import SearchSplit
from .storage.database import shown, sqlite_url
from .study import SparsityStudy

if TYPE_CHECKING:
    from torch import nn

__all__ = ['SearchOptions', 'SearchSession']

REPORT_INTERVAL = 30.0  # seconds between two reports while the search runs


@dataclass(frozen=True)
class SearchOptions:
    """What a user decides about a search; see :class:`sparsevit_mm.engine.loops.SparsitySearchLoop`.

    Raises:
        ValueError: If the budget or what it counts cannot be read, or options contradict each other.
    """

    budget: float | str | Budget | None
    budget_metric: str = 'latency'
    trials: int | None = 100
    metric: str | None = None
    higher_is_better: bool | None = None
    choices: Sequence[float] = DEFAULT_CHOICES
    search_images: int | None = None
    rungs: Sequence[float] = ()
    shape: Sequence[int] | None = None
    batch: int | None = None
    dtype: str | None = None
    device: str | None = None
    latency_table: str | None = None
    foreign: bool = False
    whole_model: bool = False
    latency_rounds: int | None = None
    seed: int = 0
    initial: int | None = None
    storage: str | None = None
    study_name: str = 'sparsity'
    heartbeat: int = 30
    grace: int = 120
    resume: bool = False
    config: str | None = None
    cfg_options: Mapping[str, Any] | None = None
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if self.budget_metric not in COST_MODELS:
            raise ValueError(f'budget_metric must be one of {", ".join(COST_MODELS)}, got {self.budget_metric!r}.')
        if self.latency_rounds is not None and self.latency_rounds < 1:
            raise ValueError(f'latency_rounds must be at least 1, got {self.latency_rounds}.')
        wrong = [name for name in OF_LATENCY if getattr(self, name)]
        if self.budget_metric != 'latency' and wrong:
            raise ValueError(
                f'{", ".join(wrong)}: only of use with budget_metric="latency", got {self.budget_metric!r}.'
            )
        if self.budget is not None:
            budget = Budget.parse(self.budget, COST_MODELS[self.budget_metric].unit)
            object.__setattr__(self, 'budget', budget)

    @property
    def counted(self) -> str:
        """What a cost is, in words."""
        of = 'whole model' if self.whole_model else 'backbone'
        return f'{"latency" if self.budget_metric == "latency" else "MACs"} of the {of}'


class SearchSession:
    """Opens the study of a model and writes what it finds.

    Args:
        cfg: The whole config of the run.
        model: The model with the weights to search on.
        backbone: Its sparse backbone.
        split: The images that candidates are scored on.
        options: What the user decided.
        shape: Height and width in pixels that the cost is meant for, where the options say nothing.
        folder: The work dir.
        on_progress: Called with the parts done and their number while latencies are measured.
        on_wait: Called with a sentence where something has to be waited for.

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
        *,
        on_progress: Callable[[int, int], None] | None = None,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        self.cfg, self.split, self.options, self.folder = cfg, split, options, Path(folder)
        self.measured: Sequence[Measured] = ()
        self.samples: Sequence[Path] = ()
        self._written: Evaluation | None = None
        self._written_at = time.monotonic()
        self._user: Config | None = None
        space = backbone.sparsity_space(options.choices)
        images = tuple(rung.images for rung in split.rungs)
        self.study = SparsityStudy(
            space,
            self._cost(model, backbone, space.choices, shape, on_progress),
            options.budget,
            storage=options.storage or sqlite_url(self.folder / 'study.sqlite3'),
            resume=options.resume,
            trials=options.trials,
            seed=options.seed,
            metric=options.metric,
            higher_is_better=options.higher_is_better,
            initial=options.initial,
            rungs=images if len(images) > 1 else (),
            fingerprint={'model': _identity(cfg.get('model')), 'weights': _digest(model), 'data': split.fingerprint},
            name=options.study_name,
            heartbeat=options.heartbeat,
            grace=options.grace,
            on_wait=on_wait,
        )

    def _cost(
        self,
        model: 'nn.Module',
        backbone: 'nn.Module',
        choices: Sequence[float],
        shape: tuple[int, int],
        on_progress: Callable[[int, int], None] | None,
    ) -> MacsCost | TableCost:
        options = self.options
        if options.budget_metric == 'macs':
            return MacsCost(backbone, tuple(options.shape or shape), choices=choices)
        return TableCost(
            backbone,
            options.shape or (None if options.latency_table else shape),
            batch=options.batch,
            dtype=options.dtype,
            device=options.device,
            choices=choices,
            table=options.latency_table,
            foreign=options.foreign,
            whole_model=model if options.whole_model else None,
            rounds=options.latency_rounds,
            progress=on_progress,
            folder=self.folder,
        )

    def describe(self) -> str:
        """What is about to be done, in a line."""
        study, unit = self.study, self.study.cost.unit
        dense, least = (format_cost(cost, unit) for cost in (study.calibration['dense'], study.costed.least))
        text = (
            f'search over {len(study.space):,} settings, scored on {self.split.description}; {self.options.counted}: '
            f'dense {dense}, least {least}'
        )
        if not study.budget:
            return text
        text += f', budget {format_cost(study.limit, unit)}'
        if study.feasible_size is not None:
            text += f', kept by {study.feasible_size:,} settings'
        return text if study.edge_size is None else f'{text}, {study.edge_size:,} of which use it up'

    def doubt(self) -> str | None:
        """Why the costs are not to be trusted much, None where they are."""
        return self.study.cost.doubt()

    def refresh(self, outcome: Outcome) -> None:
        """Writes the files anew now and then after the best setting has changed."""
        if outcome.best != self._written and time.monotonic() - self._written_at > REPORT_INTERVAL:
            self.write()

    def write(self) -> Outcome:
        """Writes all files from the study as it stands."""
        outcome = self.study.outcome()
        self._written, self._written_at = outcome.best, time.monotonic()
        if self._user is None:
            self._user = self._user_config()
        checkpoint = self.options.checkpoint
        write_configs(outcome, self.folder, self._user, self._base(), checkpoint, self.options.counted)
        write_report(
            outcome,
            self.folder,
            self._facts(),
            self._title(),
            self.measured,
            self.samples,
            self._commands(),
            cost=self.study.cost.describe(),
        )
        return outcome

    def close(self) -> Outcome:
        """Writes all files and lets others at the study."""
        try:
            return self.write()
        finally:
            self.study.close()

    @property
    def measurable(self) -> bool:
        """Whether latencies can be measured for the report: not where MACs are counted, or by a table of elsewhere."""
        return isinstance(self.study.cost, TableCost) and not self.options.foreign

    def measure(self, backbone: 'nn.Module') -> None:
        """Times dense, the best uniform and the found setting in alternation, for the report."""
        from .report.final_latency import measure_final, settings_to_measure

        cost, outcome = self.study.cost, self.study.outcome()
        if outcome.best is None:
            return
        conditions = dict(cost.environment)
        shape = conditions.pop('shape')
        settings = settings_to_measure(outcome)
        rest, rounds = cost.model_rest, self.options.latency_rounds or ROUNDS[1]
        self.measured = measure_final(backbone, shape, settings, **conditions, rounds=rounds, rest=rest)

    def shown(self) -> tuple[float, ...] | None:
        """The setting that pictures are drawn of: the best one, on a front the sparsest one that is not uniform."""
        outcome = self.study.outcome()
        if outcome.has_budget or not outcome.front:
            return outcome.best and outcome.best.sparsity
        return next((e for e in outcome.front if not e.uniform), outcome.front[0]).sparsity

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
            'Cost': f'{self.options.counted}; {conditions}',
            'Seed': str(self.options.seed),
            'Study': f'{study.name} in {shown(study.storage_url)}',
        }
        if study.edge_size is not None:
            facts['Proposed'] = f'from {study.edge_size:,} settings that use the budget up, then from what is below'
        return facts | ({'Warning': doubt} if (doubt := self.doubt()) else {})

    def _commands(self) -> tuple[tuple[str, str], ...]:
        """How to search again, to go on, and to use what was found."""
        checkpoint = self.options.checkpoint or 'CHECKPOINT'
        search = ['python', 'tools/search_sparsity.py', str(self._base()), str(checkpoint)]
        search += [*words_of(self.options), '--work-dir', str(self.folder)]
        go_on = ('Go on', shlex.join([*search, '--resume']))
        return (('Search', shlex.join(search)), go_on, *config_commands(self.folder / BEST, self.options.checkpoint))

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
