"""Speed-up against sparsity, a panel for each model and size of suites."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from .suite_report import Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['plot_speed_up']

# Of Okabe and Ito, told apart by all kinds of colour vision.
COLOURS = {'float32': '#0072B2', 'bfloat16': '#D55E00', 'float16': '#009E73'}
STYLES = {'eager': '-', 'compiled': '-.', 'graphs': ':'}
MARKERS = 'os^DvP'
MOST_COLUMNS = 3
INCHES = (4.4, 3.4)
LEGEND_INCHES = 0.9


def plot_speed_up(lines: Sequence[Line], out: Path) -> None:
    """Write a picture: a line for each batch, dtype and mode, over the stock model, and the ratio of MACs.

    Only settings with one sparsity for all sites are in it. Where there is no stock model, or it did not run, speed-up
    is over ours at sparsity 0.

    Args:
        lines: Of one or more files.
        out: A file whose suffix matplotlib knows.

    Raises:
        ValueError: If there is nothing to draw, or the format is not known.
        OSError: If the file cannot be written.
    """
    from matplotlib.figure import Figure

    shown = [line for line in lines if len(set(line.sparsity)) == 1 and _gain(line) is not None]
    if not shown:
        raise ValueError('there is nothing to draw: no case has a row of one sparsity for all sites that ran.')
    panels = {key: list(group) for key, group in groupby(sorted(shown, key=_panel), key=_panel)}
    batches = sorted({line.batch for line in shown})
    columns = min(MOST_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure((INCHES[0] * columns, INCHES[1] * rows + LEGEND_INCHES), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (key, group) in zip(axes.flat, panels.items()):
        _draw(axis, key, group, batches)
    for axis in axes[:, 0]:
        axis.set_ylabel('speed-up')
    figure.legend(handles=_legend(shown, batches), loc='outside lower center', ncols=4, frameon=False, fontsize=8)
    figure.savefig(out, dpi=150)


def _panel(line: Line) -> tuple[str, tuple[int, int], str]:
    over = 'ours dense' if line.speed_up is None else 'stock'
    return f'{line.model} ({line.backbone})', line.shape, over


def _gain(line: Line) -> float | None:
    return line.over_dense if line.speed_up is None else line.speed_up


def _draw(axis: 'Axes', key: tuple, lines: Sequence[Line], batches: Sequence[int]) -> None:
    name, (height, width), over = key
    axis.axhline(1, color='0.6', linewidth=1)

    def kind(line: Line) -> tuple:
        return line.case, line.dtype, line.mode, line.batch

    for (_, dtype, mode, batch), group in groupby(sorted(lines, key=kind), key=kind):
        points = sorted((line.sparsity[0], _gain(line)) for line in group)
        axis.plot(
            *zip(*points),
            color=COLOURS[dtype],
            linestyle=STYLES[mode],
            marker=MARKERS[batches.index(batch) % len(MARKERS)],
            markersize=4,
            linewidth=1.4,
        )
    ratios = dict(sorted((line.sparsity[0], line.macs_ratio) for line in lines if line.macs_ratio is not None))
    axis.plot(ratios.keys(), ratios.values(), color='0.3', linestyle='--', linewidth=0.8)
    axis.set_title(f'{name}, {height}x{width}, over {over}', fontsize=9)
    axis.set_xlabel('sparsity')
    axis.tick_params(labelleft=True)
    axis.grid(color='0.92')
    axis.set_axisbelow(True)


def _legend(lines: Sequence[Line], batches: Sequence[int]) -> list:
    """What colours, styles and markers stand for, where there is more than one."""
    from matplotlib.lines import Line2D

    dtypes, modes = {line.dtype for line in lines}, {line.mode for line in lines}
    handles = [Line2D([], [], color=COLOURS[dtype], label=dtype) for dtype in COLOURS if dtype in dtypes]
    handles += [Line2D([], [], color='0.3', linestyle='--', linewidth=0.8, label='MACs, stock over ours')]
    handles += [Line2D([], [], color='0.3', linestyle=STYLES[mode], label=mode) for mode in STYLES if mode in modes]
    handles += [
        Line2D([], [], color='0.3', linestyle='', marker=MARKERS[index % len(MARKERS)], label=f'batch {batch}')
        for index, batch in enumerate(batches)
    ]
    return handles
