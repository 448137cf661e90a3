"""What a budget means on this machine: a table of latencies, and the controls that take as long."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from ...apis import build_model, load_config
from ...cost import Environment, LatencyTable, fit_to_budget, measure_interleaved, measure_latency_table
from ...cost.conditions import check_device, random_images
from ...cost.latency import forward_call
from ...models import find_sparse_backbone
from ...sparsity import DEFAULT_CHOICES
from ..plan import budget_name
from ..values import digest, to_json, unreachable
from .job import Job

__all__ = ['calibrate_run', 'nearest']

SPARSITY = 'model.backbone.sparsity'
TABLE = 'latency_table.json'
# A control that is further off than this is no control at equal latency.
FURTHEST = 0.06


def calibrate_run(job: Job) -> dict[str, Any]:
    """Measure a table, and which candidates of each control take what the budgets allow.

    Options are ``shape`` (height and width in pixels), ``budgets`` (fractions of the dense latency of the backbone),
    ``choices``, ``rounds`` and ``check`` of the table, and ``controls``: names, and for each a sequence of candidates,
    ``dict(label=..., overrides=...)`` with a ``shape`` of its own where it has one. The nearest may be ``furthest``
    from a budget. ``control_rounds`` and ``min_round_time`` are how candidates are timed, see
    :func:`sparsevit_mm.cost.measure_interleaved`. With ``fit`` each budget is also shared out among the sites by the
    table, without any search.

    Returns:
        The ``table``; for every control the candidate nearest to each budget, by its name as text, with its ``ratio``
        of the dense latency; ``fit`` likewise with its ``sparsity``. What no candidate reaches says so.

    Raises:
        ValueError: If an option is not valid, or nothing can be measured under these conditions.
    """
    options, path = job.options, job.folder / TABLE
    cfg = load_config(job.config)
    backbone = _backbone(cfg)
    table = _table(job, backbone, path)
    result = {'table': table.to_dict(), 'environment': table.environment.to_dict()}
    if options.get('controls'):
        result |= _controls(job, cfg)
    if options.get('fit'):
        result['fit'] = {budget_name(budget): _fitted(table, budget) for budget in options['budgets']}
    return result


def _table(job: Job, backbone: nn.Module, path: Path) -> LatencyTable:
    """The table, of an earlier start of this run if it got so far."""
    options = job.options
    if path.exists():
        return LatencyTable.load(path)
    table = measure_latency_table(
        backbone,
        tuple(options['shape']),
        device=job.device,
        threads=job.threads,
        choices=options.get('choices', DEFAULT_CHOICES),
        rounds=options.get('rounds', 10),
        check=options.get('check', 10),
    )
    table.save(path)
    return table


def _fitted(table: LatencyTable, budget: float) -> dict[str, Any]:
    try:
        sparsity = fit_to_budget(table, budget)
    except ValueError as error:
        return unreachable(str(error))
    return {'sparsity': list(sparsity), 'ratio': table.predict(sparsity) / table.dense}


def _controls(job: Job, cfg: Config) -> dict[str, Any]:
    options = job.options
    dense = {'label': 'dense', 'overrides': {SPARSITY: 0.0}}
    entries = [('dense', dense), *((name, c) for name, cs in options['controls'].items() for c in cs)]
    seconds = _times(job, cfg, [candidate for _, candidate in entries])
    ratios = [value / seconds[0] for value in seconds]
    found: dict[str, Any] = {'dense_seconds': seconds[0]}
    for name in options['controls']:
        own = [(candidate, ratio) for (other, candidate), ratio in zip(entries, ratios) if other == name]
        found[name] = {
            budget_name(budget): nearest(own, budget, options.get('furthest', FURTHEST))
            for budget in options['budgets']
        }
        found[f'{name}_candidates'] = {candidate['label']: round(ratio, 4) for candidate, ratio in own}
    return found


def nearest(
    candidates: Sequence[tuple[Mapping[str, Any], float]], budget: float, furthest: float = FURTHEST
) -> dict[str, Any]:
    """The candidate whose latency is nearest to a budget, for JSON.

    Args:
        candidates: Each with its fraction of the dense latency.
        budget: What is wanted.
        furthest: How far from it the best may be.
    """
    candidate, ratio = min(candidates, key=lambda pair: abs(pair[1] - budget))
    if abs(ratio - budget) > furthest:
        return unreachable(
            f'nothing takes about {budget:.0%} of the dense latency: {candidate["label"]} is nearest and takes '
            f'{ratio:.0%}'
        )
    return {**to_json(dict(candidate)), 'ratio': ratio}


def _times(job: Job, cfg: Config, candidates: Sequence[Mapping[str, Any]]) -> list[float]:
    """Median seconds of the backbones of candidates, all interleaved; those that differ in sparsity only share one."""
    device = check_device(job.device)
    backbones: dict[str, nn.Module] = {}
    calls: dict[str, Callable[[], object]] = {}
    settings: dict[str, Callable[[], object]] = {}
    for number, candidate in enumerate(candidates):
        overrides = dict(candidate['overrides'])
        sparsity = overrides.pop(SPARSITY, 0.0)
        key = digest(overrides)
        if key not in backbones:
            backbones[key] = _backbone(cfg, overrides).to(device).eval()
        backbone = backbones[key]
        shape = tuple(candidate.get('shape', job.options['shape']))
        calls[str(number)] = forward_call(backbone, random_images(backbone, shape), 'float32')
        settings[str(number)] = _setter(backbone, sparsity)
    environment = Environment.current(
        device=str(device), dtype='float32', batch=1, shape=tuple(job.options['shape']), threads=job.threads
    )
    records = measure_interleaved(
        calls,
        device=device,
        environment=environment,
        rounds=job.options.get('control_rounds', 10),
        min_round_time=job.options.get('min_round_time', 0.2),
        prepare=lambda name: settings[name](),
    )
    return [record.median for record in records.values()]


def _setter(backbone: nn.Module, sparsity: Any) -> Callable[[], None]:
    def set_sparsity() -> None:
        backbone.sparsity = sparsity

    return set_sparsity


def _backbone(cfg: Config, overrides: Mapping[str, Any] | None = None) -> nn.Module:
    cfg = cfg if overrides is None else Config(cfg.to_dict())
    if overrides:
        cfg.merge_from_dict(dict(overrides))
    return find_sparse_backbone(build_model(cfg))
