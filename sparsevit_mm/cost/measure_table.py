"""Measuring the latency of every site while the whole backbone runs."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral

import numpy as np
import torch

from ..models import SparseBackbone
from ..sparsity import DEFAULT_CHOICES, SparsityLayout, SparsitySpace
from .backbone_identity import BackboneIdentity
from .block_clock import BlockClock
from .conditions import (
    check_device,
    check_dtype,
    check_float32,
    check_image_shape,
    check_schedule,
    check_threads,
    fixed_threads,
    measuring,
    random_images,
)
from .environment import Environment
from .latency import Progress, forward_call
from .latency_table import LatencyTable
from .table_entries import CheckedSetting, SiteLatency, check_choices

__all__ = ['measure_latency_table', 'passes_of_a_round', 'random_settings', 'staircases']


def measure_latency_table(
    backbone: SparseBackbone,
    shape: tuple[int, int],
    *,
    batch: int = 1,
    dtype: str = 'float32',
    device: str | torch.device = 'cpu',
    choices: Sequence[float] = DEFAULT_CHOICES,
    rounds: int = 10,
    forwards: int = 1,
    threads: int | None = None,
    check: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> LatencyTable:
    """Time the sites of a backbone in evaluation mode on noise.

    The whole backbone runs, at settings in which sparsity climbs from site to site within a group
    (see :func:`staircases`); each site so meets every choice, and selects wherever it can. All settings are
    interleaved, and among them those of the check, which run without stamps.

    Args:
        backbone: One of ours. It comes back as it was.
        shape: Height and width in pixels.
        batch: Images in one forward.
        dtype: ``float32``, or ``bfloat16`` and ``float16`` by autocast.
        device: ``cpu`` or ``cuda``.
        choices: Sparsities, ascending from 0.
        rounds: Values of each setting.
        forwards: Timed passes of a setting in a round, whose median is its value; an untimed one comes first.
        threads: Intra-op threads of torch; the present ones if not given.
        check: Random settings to compare predictions with; 0 for none.
        seed: Of those.
        progress: Called with the settings run and their number, those of all rounds together.

    Raises:
        ValueError: If an argument is out of range, or the backbone has no sites or does not run like this.
    """
    choices = tuple(float(choice) for choice in choices)
    shape = check_image_shape(shape, batch)
    device = check_device(device)
    dtype = check_dtype(dtype, device)
    check_choices(choices)
    check_schedule(rounds, 0.0)
    check_threads(threads)
    check_float32(backbone)
    for name, value, least in (('forwards', forwards, 1), ('check', check, 0)):
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f'{name} must be an integer from {least} on, got {value!r}.')
    if not backbone.sites:
        raise ValueError(f'{type(backbone).__name__} has no sites, so there is nothing to make a latency table of.')
    if getattr(backbone, 'counts', 'fixed') == 'adaptive':
        raise ValueError(
            f"{type(backbone).__name__} has counts='adaptive', so what is computed depends on the image and not on the "
            f"sparsity: measure it with counts='fixed'. Its table is good for training it with adaptive counts too."
        )
    environment = Environment.current(device=str(device), dtype=dtype, batch=batch, shape=shape, threads=threads)
    stairs = staircases(backbone.sparsity_layout, choices)
    checked = random_settings(backbone.sparsity_space(choices), check, seed)
    with measuring(backbone, device), fixed_threads(environment.threads):
        call = forward_call(backbone, random_images(backbone, shape, batch=batch), dtype)
        clock = BlockClock(backbone, device)
        timed, whole = _rounds(backbone, call, clock, (stairs, checked), rounds, forwards, progress)
    table = LatencyTable(
        backbone=BackboneIdentity.of(backbone),
        environment=environment,
        choices=choices,
        sites=tuple(_site_latency(timed[..., i], met, choices) for i, met in enumerate(zip(*stairs))),
        rest=float(np.median(timed[..., -1])),
        rounds=int(rounds),
    )
    measured = (float(np.median(values)) for values in whole.T)
    return replace(table, check=tuple(CheckedSetting(s, m, table.predict(s)) for s, m in zip(checked, measured)))


def staircases(layout: SparsityLayout, choices: Sequence[float]) -> list[tuple[float, ...]]:
    """Settings in which each site meets every choice, and each site but the first drops more than the one before.

    In setting ``k`` the site ``j`` of every group, both counted from 0, is at choice ``k + j``, or at the first or
    last one where there is no such choice.

    Args:
        layout: The sites.
        choices: Sparsities, ascending.
    """
    last = len(choices) - 1
    return [
        tuple(choices[min(max(k + j, 0), last)] for size in layout.groups for j in range(size))
        for k in range(1 - max(layout.groups), last + 1)
    ]


def random_settings(space: SparsitySpace, number: int, seed: int) -> list[tuple[float, ...]]:
    """Distinct settings, as many as are wanted or there are."""
    generator, found = random.Random(seed), {}
    while len(found) < min(number, len(space)):
        found[space.sample(generator)] = None
    return list(found)


def passes_of_a_round(backbone: SparseBackbone, choices: Sequence[float], check: int, forwards: int = 1) -> int:
    """Forward passes of one round of :func:`measure_latency_table`, the untimed ones included."""
    settings = len(staircases(backbone.sparsity_layout, choices)) + min(check, len(backbone.sparsity_space(choices)))
    return settings * (1 + forwards)


def _rounds(
    backbone: SparseBackbone,
    call: Callable[[], object],
    clock: BlockClock,
    settings: tuple[Sequence[tuple[float, ...]], Sequence[tuple[float, ...]]],
    rounds: int,
    forwards: int,
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of sites at the first settings, ``[rounds, settings, sites + 1]``, and of the whole at the second.

    The order of the settings is drawn anew in every round, so that none always follows the same one.
    """
    stairs, checked = settings
    timed = np.zeros((rounds, len(stairs), len(backbone.sites) + 1))
    whole = np.zeros((rounds, len(checked)))
    order = [(i, setting, False) for i, setting in enumerate(stairs)]
    order += [(i, setting, True) for i, setting in enumerate(checked)]
    generator = random.Random(0)
    for done in range(rounds):
        for position, (i, setting, unstamped) in enumerate(generator.sample(order, len(order)), 1):
            backbone.sparsity = setting
            call()
            if unstamped:
                whole[done, i] = np.median([clock.time(call) for _ in range(forwards)])
            else:
                timed[done, i] = np.median([clock.time_sites(call) for _ in range(forwards)], axis=0)
            if progress is not None:
                progress(done * len(order) + position, rounds * len(order))
    return timed, whole


def _site_latency(seconds: np.ndarray, met: Sequence[float], choices: Sequence[float]) -> SiteLatency:
    """Medians and quartiles of a site.

    Args:
        seconds: ``[rounds, settings]``.
        met: What it was at in each setting.
        choices: What to tell of.
    """
    values = (seconds[:, [value == choice for value in met]] for choice in choices)
    quantiles = np.array([np.quantile(part, (0.25, 0.5, 0.75)) for part in values])
    q1, median, q3 = (tuple(map(float, column)) for column in quantiles.T)
    return SiteLatency(median, q1, q3)
