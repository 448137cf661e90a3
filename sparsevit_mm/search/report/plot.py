"""The picture of a search: accuracy against cost."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ...files import written_whole
from ..budget import format_cost
from ..results import Evaluation, Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ['BLACK', 'GREEN', 'ORANGE', 'new_figure', 'plot_outcome', 'save_figure']

# Okabe and Ito's colours, told apart with any colour vision; shapes tell the groups apart as well.
_GREY, ORANGE, _BLUE, GREEN, _RED, BLACK = '#8a8a8a', '#e69f00', '#0072b2', '#009e73', '#d55e00', '#000000'


def plot_outcome(outcome: Outcome, path: str | os.PathLike, title: str = '') -> None:
    """Draws candidates, uniform settings, the dense reference, the front and the budget.

    Args:
        outcome: The study.
        path: Where the picture goes; the suffix decides its format.
        title: Heading.
    """
    figure, axes = new_figure(7.2, 4.6)
    scale, unit = _scale(outcome)
    _draw_settings(axes, outcome, scale)
    axes.set_xlabel(f'{"latency" if outcome.unit == "s" else "cost"} [{unit}]')
    axes.set_ylabel(outcome.metric_name, parse_math=False)
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.margins(0.06, 0.1)
    axes.grid(color='#dddddd', lw=0.6)
    axes.set_axisbelow(True)
    dense = outcome.dense_cost / scale
    top = axes.secondary_xaxis('top', functions=(lambda x: x / dense, lambda x: x * dense))
    top.set_xlabel('fraction of dense', fontsize=9)
    figure.legend(loc='outside lower center', ncols=6, fontsize=8, frameon=False, columnspacing=1.2)
    save_figure(figure, Path(path))


def _draw_settings(axes: 'Axes', outcome: Outcome, scale: float) -> None:
    def points(evaluations: list[Evaluation]) -> tuple[list[float], list[float]]:
        return [e.cost / scale for e in evaluations], [e.accuracy for e in evaluations]

    mixed, front, uniform = [e for e in outcome.evaluations if not e.uniform], outcome.front, outcome.uniform
    axes.plot(*points(mixed), 'o', color=_GREY, ms=4.5, mfc='none', mew=1, label='candidate')
    if front:
        axes.step(*points(front), where='post', color=_BLUE, lw=1.5, zorder=2)
        axes.plot(*points(front), 'o', color=_BLUE, ms=5, zorder=3, label='Pareto front')
    axes.plot(*points(uniform), 's', color=ORANGE, mec=BLACK, mew=0.6, ms=7, zorder=4, label='uniform')
    for e, x, y in zip(uniform, *points(uniform)):
        label = axes.annotate(f'{e.sparsity[0]:g}', (x, y), xytext=(7, -11), textcoords='offset points', fontsize=8)
        label.set_bbox(dict(boxstyle='round,pad=0.1', facecolor='white', edgecolor='none', alpha=0.8))
        label.set_zorder(4)
    if outcome.dense:
        axes.plot(*points([outcome.dense]), '*', color=BLACK, ms=13, zorder=4, label='dense')
    if outcome.best and outcome.has_budget:
        axes.plot(*points([outcome.best]), 'D', color=GREEN, mec=BLACK, mew=0.8, ms=8, zorder=5, label='found')
    if outcome.has_budget:
        label = f'budget {format_cost(outcome.limit, outcome.unit)}'
        axes.axvline(outcome.limit / scale, color=_RED, ls='--', lw=1.2, zorder=1, label=label)


def new_figure(width: float, height: float) -> tuple['Figure', 'Axes']:
    """A figure of this size in inches that belongs to no global state of matplotlib, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout='constrained')
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def save_figure(figure: 'Figure', path: Path) -> None:
    """Writes a picture that is whole or not there; the suffix decides its format."""
    with written_whole(path) as unfinished:
        figure.savefig(unfinished, format=path.suffix[1:])


def _scale(outcome: Outcome) -> tuple[float, str]:
    """What an axis counts in."""
    if outcome.unit == 's':
        return 1e-3, 'ms'
    prefix, factor = next(
        ((p, f) for p, f in (('T', 1e12), ('G', 1e9), ('M', 1e6)) if outcome.dense_cost >= f), ('', 1.0)
    )
    return factor, f'{prefix}{outcome.unit}'
