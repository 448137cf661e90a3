"""The picture of a search: accuracy against cost."""

import math
import os
from pathlib import Path

from .budget import format_cost
from .results import Evaluation, Outcome

__all__ = ['plot_outcome']

# Okabe and Ito's colours, told apart with any colour vision; shapes tell the groups apart as well.
_GREY, _ORANGE, _BLUE, _GREEN, _RED, _BLACK = '#8a8a8a', '#e69f00', '#0072b2', '#009e73', '#d55e00', '#000000'


def plot_outcome(outcome: Outcome, path: str | os.PathLike, title: str = '') -> None:
    """Draws candidates, uniform settings, the dense reference, the front and the budget.

    Args:
        outcome: The study.
        path: Where the picture goes; the suffix decides its format.
        title: Heading.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scale, unit = _scale(outcome)
    figure = Figure(figsize=(7.2, 4.6), dpi=150, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()

    def points(evaluations: list[Evaluation]) -> tuple[list[float], list[float]]:
        return [e.cost / scale for e in evaluations], [e.accuracy for e in evaluations]

    mixed = [e for e in outcome.evaluations if not e.uniform]
    axes.plot(*points(mixed), 'o', color=_GREY, ms=4.5, mfc='none', mew=1, label='candidate')
    front = outcome.front
    if front:
        axes.step(*points(front), where='post', color=_BLUE, lw=1.5, zorder=2, label='Pareto front')
        axes.plot(*points(front), 'o', color=_BLUE, ms=5, zorder=3)
    axes.plot(*points(outcome.uniform), 's', color=_ORANGE, mec=_BLACK, mew=0.6, ms=7, zorder=4, label='uniform')
    for e in outcome.uniform:
        axes.annotate(
            f'{e.sparsity[0]:g}',
            (e.cost / scale, e.accuracy),
            xytext=(7, -11),
            textcoords='offset points',
            fontsize=8,
        )
    if outcome.dense:
        axes.plot(*points([outcome.dense]), '*', color=_BLACK, ms=13, zorder=4, label='dense')
    if outcome.best:
        axes.plot(*points([outcome.best]), 'D', color=_GREEN, mec=_BLACK, mew=0.8, ms=8, zorder=5, label='best')
    if math.isfinite(outcome.limit):
        label = f'budget {format_cost(outcome.limit, outcome.unit)}'
        axes.axvline(outcome.limit / scale, color=_RED, ls='--', lw=1.2, zorder=1, label=label)
    axes.set_xlabel(f'{"latency" if outcome.unit == "s" else "cost"} of the backbone [{unit}]')
    axes.set_ylabel(outcome.metric_name)
    axes.set_title(title, fontsize=10)
    axes.margins(0.06, 0.1)
    axes.grid(color='#dddddd', lw=0.6)
    axes.set_axisbelow(True)
    dense = outcome.dense_cost / scale
    top = axes.secondary_xaxis('top', functions=(lambda x: x / dense, lambda x: x * dense))
    top.set_xlabel('fraction of dense', fontsize=9)
    axes.legend(fontsize=8, framealpha=0.9)
    path = Path(path)
    unfinished = path.with_name(f'.{os.getpid()}.{path.name}')
    figure.savefig(unfinished, format=path.suffix[1:])
    unfinished.replace(path)


def _scale(outcome: Outcome) -> tuple[float, str]:
    """What an axis counts in."""
    if outcome.unit == 's':
        return 1e-3, 'ms'
    prefix, factor = next(
        ((p, f) for p, f in (('T', 1e12), ('G', 1e9), ('M', 1e6)) if outcome.dense_cost >= f), ('', 1.0)
    )
    return factor, f'{prefix}{outcome.unit}'
