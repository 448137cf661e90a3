"""The picture of what was found: how sparse each site is."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..results import Evaluation, Outcome
from .plot import BLACK, GREEN, ORANGE, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['plot_sites']

_SITE, _MARGIN = 0.8, 2.4  # inches of a site's bars, and of what is beside them
_WIDTH = 7.2  # inches that the columns of a heat map share, as long as they are not too narrow to be told apart
_NARROWEST, _WRITTEN, _LYING = 0.14, 0.27, 0.5  # inches: of a column, with its value in it, with its label lying


def plot_sites(outcome: Outcome, path: str | os.PathLike) -> None:
    """Draws the sparsity of each site: under a budget of what was found, without one of the whole front.

    Args:
        outcome: A study with at least one evaluation within the budget.
        path: Where the picture goes; the suffix decides its format.
    """
    figure = _bars(outcome) if outcome.has_budget or len(outcome.front) == 1 else _heat_map(outcome)
    save_figure(figure, Path(path))


def _bars(outcome: Outcome) -> 'Figure':
    """The best setting beside the best uniform one."""
    best, rival = outcome.best, outcome.best_uniform
    shown = [('found', best, GREEN, '')]
    if rival is not None and rival is not best:
        shown.append((f'uniform {rival.sparsity[0]:g}', rival, ORANGE, '////'))
    sites = range(len(outcome.sites))
    figure, axes = new_figure(max(_WIDTH, _MARGIN + _SITE * len(sites)), 3.9)
    width = 0.8 / len(shown)
    for i, (name, e, colour, hatch) in enumerate(shown):
        places = [site + (i - (len(shown) - 1) / 2) * width for site in sites]
        label = f'{name}: {_described(outcome, e)}'
        bars = axes.bar(places, e.sparsity, width, color=colour, edgecolor=BLACK, lw=0.6, hatch=hatch, label=label)
        axes.bar_label(bars, [f'{value:g}' for value in e.sparsity], fontsize=8, padding=2)
    axes.set_xticks(list(sites), outcome.sites, **_turned(outcome.sites, _SITE))
    axes.set_ylim(0, 1)
    axes.set_ylabel('sparsity (not computed)')
    axes.grid(axis='y', color='#dddddd', lw=0.6)
    axes.set_axisbelow(True)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    figure.legend(loc='outside upper center', ncols=1, fontsize=9, frameon=False)
    return figure


def _heat_map(outcome: Outcome) -> 'Figure':
    """The settings of the front, from the cheapest to the dearest, a column each."""
    front = outcome.front
    sites, settings = len(outcome.sites), len(front)
    column = max(_NARROWEST, min(0.62, _WIDTH / settings))
    figure, axes = new_figure(max(_WIDTH, _MARGIN + column * settings), max(3.2, 1.9 + 0.38 * sites))
    values = [[e.sparsity[site] for e in front] for site in range(sites)]
    image = axes.imshow(values, cmap='cividis_r', vmin=0, vmax=1, aspect='auto')
    if column >= _WRITTEN:
        for site, row in enumerate(values):
            for setting, value in enumerate(row):
                shade = 'white' if value > 0.55 else 'black'
                axes.text(setting, site, f'{value:.2g}', ha='center', va='center', color=shade, fontsize=8)
    lying = column >= _LYING
    texts = [f'{outcome.share(e.cost):.3f}{chr(10) if lying else "  "}{e.accuracy:.4g}' for e in front]
    axes.set_xticks(range(settings), texts, fontsize=8, rotation=0 if lying else 90)
    axes.set_yticks(range(sites), outcome.sites, fontsize=9)
    axes.set_xlabel(f'settings of the front: cost as a fraction of dense, {outcome.metric_name}', fontsize=9)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label='sparsity (not computed)', pad=0.01)
    return figure


def _described(outcome: Outcome, e: Evaluation) -> str:
    return f'{outcome.metric_name} {e.accuracy:.4g} at {outcome.share(e.cost):.3f} of dense'


def _turned(names: Sequence[str], inches: float) -> dict:
    """How the names of sites stand under bars that are so wide."""
    turned = max(map(len, names)) * 0.085 > inches
    return {'fontsize': 9, **({'rotation': 35, 'ha': 'right', 'rotation_mode': 'anchor'} if turned else {})}
