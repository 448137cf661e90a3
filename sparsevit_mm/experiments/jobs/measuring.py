"""Latencies of all models of a suite against each other, backbones and whole models."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from ...apis import build_model, load_config
from ...cost import Environment, measure_interleaved
from ...cost.conditions import check_device, random_images
from ...cost.latency import LatencyRecord, forward_call
from ...cost.whole_model import whole_model_call, whole_model_scope
from ...models import find_sparse_backbone
from ..values import digest
from .job import Job

__all__ = ['measure_run']

PARTS = ('backbone', 'whole')


@dataclass(frozen=True)
class _Subject:
    """A model at a size, and the rows that are timed by it."""

    calls: Mapping[str, Callable[[], object]]
    scope: str
    keys: list[str]


def measure_run(job: Job) -> dict[str, Any]:
    """Time the models of rows in turns in one process, float32 and one image at a time.

    With a fixed number of kept units weights and images do not matter, so rows of one architecture, sparsity and size
    share a measurement. Options are ``rows``, each with the ``key`` of its task, its ``config`` and ``shape``, and
    ``rounds`` and ``min_round_time``, see :func:`sparsevit_mm.cost.measure_interleaved`.

    Returns:
        For each key ``backbone`` and ``whole``: median and quartiles in seconds; and where and how it was measured.

    Raises:
        ValueError: If a model cannot be built or the device is not there.
    """
    device = check_device(job.device)
    subjects = _subjects(job, str(device))
    calls = {
        f'{part} {number}': subject.calls[part] for number, subject in enumerate(subjects.values()) for part in PARTS
    }
    first = tuple(job.options['rows'][0]['shape'])
    environment = Environment.current(device=str(device), dtype='float32', batch=1, shape=first, threads=job.threads)
    records = measure_interleaved(
        calls,
        device=device,
        environment=environment,
        rounds=job.options.get('rounds', 15),
        min_round_time=job.options.get('min_round_time', 0.2),
    )
    rows = {}
    for number, subject in enumerate(subjects.values()):
        times = {part: _numbers(records[f'{part} {number}']) for part in PARTS}
        rows |= dict.fromkeys(subject.keys, times)
    some = next(iter(records.values()))
    return {
        'rows': rows,
        'environment': {name: value for name, value in environment.to_dict().items() if name != 'shape'},
        'rounds': some.runs,
        'scope': next(iter(subjects.values())).scope,
    }


def _subjects(job: Job, device: str) -> dict[str, _Subject]:
    found: dict[str, _Subject] = {}
    for row in job.options['rows']:
        cfg, shape = load_config(row['config']), tuple(row['shape'])
        key = digest([json.dumps(_architecture(cfg), sort_keys=True, default=str), shape])
        if key not in found:
            model = build_model(cfg, device=device)
            backbone = find_sparse_backbone(model)
            images = random_images(backbone, shape)
            calls = {
                'backbone': forward_call(backbone, images, 'float32'),
                'whole': whole_model_call(model, images, 'float32'),
            }
            found[key] = _Subject(calls, whole_model_scope(model), [])
        found[key].keys.append(row['key'])
    return found


def _architecture(cfg: Config) -> dict[str, Any]:
    """The model without what changes nothing in evaluation."""
    model = cfg.model.to_dict()
    model.pop('train_cfg', None)
    for name in ('init_cfg', 'pretrained', 'drop_path_rate'):
        model['backbone'].pop(name, None)
    model['backbone'].get('selector', {}).pop('seed', None)
    return model


def _numbers(record: LatencyRecord) -> dict[str, float]:
    return {'median': record.median, 'q1': record.q1, 'q3': record.q3}
