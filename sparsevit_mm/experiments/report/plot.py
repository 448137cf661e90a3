"""Accuracy against latency, a line for each kind of model."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from textwrap import fill
from typing import TYPE_CHECKING

from .rows import ResultRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['plot_rows']

# Of Okabe and Ito, told apart by all kinds of colour vision; markers and, from the eighth on, dashes tell the rest.
COLOURS = ('#D55E00', '#0072B2', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
MARKERS = 'osD^vP*X'
INCHES = (6.4, 4.2)


def plot_rows(
    rows: Sequence[ResultRow], metric: str, title: str, out: Path, *, reference: tuple[float, str] | None = None
) -> None:
    """Write a picture: rows of one label as a line, with the standard deviation of the seeds.

    Args:
        rows: Those that were not measured are left out.
        metric: Name of the vertical axis.
        title: Above it.
        out: A file whose suffix matplotlib knows.
        reference: A value of the metric that is drawn through, and what it is; by default each row that is made for
            no budget is.

    Raises:
        ValueError: If there is nothing to draw.
        OSError: If the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = [row for row in rows if row.backbone]
    if not shown:
        raise ValueError('there is nothing to draw: no row has a latency yet, run the measurement first.')
    figure = Figure(INCHES, layout='constrained')
    axis = figure.subplots()
    for number, label in enumerate(dict.fromkeys(row.label for row in shown)):
        own = sorted((row for row in shown if row.label == label), key=lambda row: mean(row.backbone.values()))
        _draw(axis, own, number)
        if reference is None and own[0].budget is None:
            axis.axhline(own[0].mean, color=COLOURS[number % len(COLOURS)], linewidth=0.8, linestyle=':')
    if reference is not None:
        axis.axhline(reference[0], color='0.5', linewidth=0.8, linestyle=':', label=reference[1])
    axis.set_xlabel('latency of the backbone, fraction of dense')
    axis.set_ylabel(metric)
    axis.set_title(fill(title, 48), fontsize=10)  # no wider than its axis, beside which the legend begins
    axis.xaxis.set_major_locator(MaxNLocator(8, steps=(1, 2, 5, 10)))  # ticks of whole per cents
    axis.xaxis.set_major_formatter(lambda value, _: f'{value:.0%}')
    axis.grid(color='0.92')
    axis.set_axisbelow(True)
    for side in ('top', 'right'):
        axis.spines[side].set_visible(False)
    figure.legend(loc='outside right upper', frameon=False, fontsize=8)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)


def _draw(axis: 'Axes', rows: Sequence[ResultRow], number: int) -> None:
    colour = COLOURS[number % len(COLOURS)]
    axis.errorbar(
        [mean(row.backbone.values()) for row in rows],
        [row.mean for row in rows],
        yerr=[row.spread or 0.0 for row in rows],
        label=rows[0].label,
        color=colour,
        marker=MARKERS[number % len(MARKERS)],
        linestyle='-' if number < len(COLOURS) else '--',
        markerfacecolor=colour if number < len(COLOURS) else 'white',
        markersize=5,
        linewidth=1.3,
        elinewidth=0.8,
        capsize=2,
        alpha=0.9,
    )
