"""Latency tables of runtimes that tell only how long a whole backbone takes: ONNX Runtime, TensorRT, a phone."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, islice

import numpy as np

from ..sparsity import SparsityLayout, SparsitySpace
from .backbone_identity import BackboneIdentity
from .conditions import check_schedule
from .environment import Environment
from .latency import Progress
from .latency_table import LatencyTable
from .measure_table import random_settings, staircases
from .table_entries import CheckedSetting, SiteLatency, check_choices

__all__ = ['determining_settings', 'table_from_latencies']

MORE = 1.5  # settings for each unknown; noise averages out over what is more than one
Setting = tuple[float, ...]


def table_from_latencies(
    backbone: BackboneIdentity,
    environment: Environment,
    choices: Sequence[float],
    time_setting: Callable[[Setting], float],
    *,
    rounds: int = 5,
    check: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> LatencyTable:
    """A table by least squares over latencies of whole backbones.

    All settings are interleaved, in an order that is drawn anew in each round, and the medians over the rounds are
    explained by a sum over the sites. Such latencies only tell what a site saves against its most costly choice, not
    what it takes in all. So each site is given 0 seconds at its fastest choice, and *the rest* is what the backbone
    takes with all sites there; predictions do not depend on that. The table has no quartiles.

    Args:
        backbone: What is measured: ``BackboneIdentity.of(model.backbone)``.
        environment: Where and how, see :meth:`Environment.elsewhere`; its ``device`` is none of torch, such as
            ``onnxruntime``.
        choices: Sparsities, ascending from 0.
        time_setting: Runs the backbone once at one float a site and returns the seconds. What has to be prepared (an
            export, a session, a first run) is its own affair and must not be in them. It is called once a round for
            each of :func:`determining_settings` and of the check.
        rounds: Values of each setting.
        check: Random settings, none of those solved by, to compare predictions with; 0 for none.
        seed: Of those.
        progress: Called with the calls done and their number.

    Raises:
        ValueError: If an argument is out of range, a time is none, or the times are no sum over the sites.
    """
    choices = tuple(float(choice) for choice in choices)
    check_choices(choices)
    check_schedule(rounds, 0.0)
    layout = SparsityLayout(backbone.sites, backbone.groups)
    space = SparsitySpace(layout, choices)
    solved = determining_settings(layout, choices)
    drawn = random_settings(space, min(len(space), len(solved) + check), seed)
    checked = [setting for setting in drawn if setting not in solved][:check]
    medians = np.median(_timed(time_setting, [*solved, *checked], rounds, progress), axis=0)
    table = LatencyTable(
        backbone, environment, choices, *_solve(solved, choices, medians[: len(solved)]), rounds=int(rounds)
    )
    seconds = (float(value) for value in medians[len(solved) :])
    return replace(table, check=tuple(CheckedSetting(s, m, table.predict(s)) for s, m in zip(checked, seconds)))


def determining_settings(layout: SparsityLayout, choices: Sequence[float], seed: int = 0) -> list[Setting]:
    """Settings whose latencies determine that of every site at every choice, up to a constant a site.

    They are the staircases; settings in which the last sites of each group, from some site on, are at one choice and
    the others at 0; and random ones, until there are half as many again as unknowns.

    Args:
        layout: The sites.
        choices: Sparsities, ascending from 0.
        seed: Of what is random.
    """
    generator, space = random.Random(seed), SparsitySpace(layout, tuple(choices))
    unknowns = 1 + len(layout.sites) * (len(choices) - 1)
    found = dict.fromkeys(staircases(layout, choices))
    while np.linalg.matrix_rank(_design(list(found), choices)) < unknowns:
        found |= dict.fromkeys(_suffixes(layout, choices, generator))
    while len(found) < min(len(space), math.ceil(MORE * unknowns)):
        found[space.sample(generator)] = None
    return list(found)


def _suffixes(layout: SparsityLayout, choices: Sequence[float], generator: random.Random) -> list[Setting]:
    """In each group its last sites at one choice and the others at 0, in every way; the groups are paired at random."""
    columns = []
    for size in layout.groups:
        parts = [(0.0,) * first + (choice,) * (size - first) for first in range(size) for choice in choices[1:]]
        parts.append((0.0,) * size)
        columns.append(generator.sample(parts, len(parts)))
    longest = max(map(len, columns))
    return [sum(parts, ()) for parts in zip(*(islice(cycle(column), longest) for column in columns))]


def _design(settings: Sequence[Setting], choices: Sequence[float]) -> np.ndarray:
    """What a latency is the sum of, ``[settings, 1 + sites * (choices - 1)]``: the dense one, a change for each site.

    Column ``1 + i * (choices - 1) + k - 1`` is 1 where site ``i`` is at choice ``k`` from 1 on.
    """
    picked = np.array(settings)[:, :, None] == np.array(choices[1:])
    return np.concatenate([np.ones((len(settings), 1)), picked.reshape(len(settings), -1)], axis=1)


def _timed(
    time_setting: Callable[[Setting], float], settings: Sequence[Setting], rounds: int, progress: Progress | None
) -> np.ndarray:
    """Seconds, ``[rounds, settings]``."""
    seconds = np.zeros((rounds, len(settings)))
    generator = random.Random(0)
    for done in range(rounds):
        for position, i in enumerate(generator.sample(range(len(settings)), len(settings)), 1):
            value = float(time_setting(settings[i]))
            if not 0 < value < math.inf:
                raise ValueError(f'time_setting must return seconds above 0, but returned {value} for {settings[i]}.')
            seconds[done, i] = value
            if progress is not None:
                progress(done * len(settings) + position, rounds * len(settings))
    return seconds


def _solve(
    settings: Sequence[Setting], choices: Sequence[float], seconds: np.ndarray
) -> tuple[tuple[SiteLatency, ...], float]:
    """Sites and rest that are nearest to the latencies of some settings.

    Raises:
        ValueError: If the rest comes out below 0.
    """
    dense, *changes = np.linalg.lstsq(_design(settings, choices), seconds, rcond=None)[0]
    changes = np.array(changes).reshape(-1, len(choices) - 1)
    changes = np.concatenate([np.zeros((len(changes), 1)), changes], axis=1)
    fastest = changes.min(1, keepdims=True)
    rest = float(dense + fastest.sum())
    if rest < 0:
        raise ValueError(
            f'the latencies are no sum over the sites: what each saves by itself is {dense - rest:.4g} s together, '
            f'more than the {dense:.4g} s of the dense backbone. Measure on a quieter machine or with more rounds.'
        )
    return tuple(SiteLatency(tuple(map(float, site))) for site in changes - fastest), rest
